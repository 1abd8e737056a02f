"""Explanations, in one line each, of the predicted degradations and of the choice of a plan."""

from __future__ import annotations

from collections.abc import Mapping

from opera_env.types import Decision, Plan

PRESENT = 0.5
"""Probability above which a degradation counts as present."""

_SHOWN_PROBABILITY = 0.05
"""Degradations below this probability are listed only if they are among the three most probable."""


def format_plan(plan: Plan) -> str:
    """Returns the names of the tools in order.

    Example:
        >>> format_plan(("unet.denoise", "unet.dehaze"))
        'unet.denoise > unet.dehaze'
    """
    return " > ".join(plan) or "no tool"


def format_probabilities(probabilities: Mapping[str, float]) -> str:
    """Returns the degradations by falling probability; the improbable ones are left out.

    Example:
        >>> format_probabilities({"haze": 0.012, "noise": 0.914, "rain": 0.2, "jpeg": 0.001})
        'noise 0.91, rain 0.20, haze 0.01'
    """
    ranked = sorted(probabilities.items(), key=lambda item: -item[1])
    shown = [item for rank, item in enumerate(ranked) if rank < 3 or item[1] >= _SHOWN_PROBABILITY]
    return ", ".join(f"{name} {probability:.2f}" for name, probability in shown)


def describe_degradations(decision: Decision) -> str:
    """Describes which degradations an agent predicts.

    Args:
        decision: What the agent returned: probabilities, a set of degradations, or neither.

    Returns:
        The probabilities if the agent estimates them, else the names, else that it makes no prediction.
    """
    if decision.probabilities:
        return format_probabilities(decision.probabilities)
    if decision.degradations is None:
        return "this agent does not tell which degradations it sees"
    return ", ".join(sorted(decision.degradations)) or "no degradation"


def explain_plan(decision: Decision, scores: Mapping[Plan, float], tool_cost: float) -> str | None:
    """Explains why a plan was chosen, or why the photograph is left unchanged.

    Args:
        decision: The plan and, where the agent states them, the probabilities of degradations.
        scores: Score of every plan that was scored, including the empty plan; empty if there is none.
        tool_cost: Cost of each tool, in units of the score.

    Returns:
        One line; None if the agent gives its reasoning itself.
    """
    if {(), decision.plan} <= scores.keys() and len(scores) > 1:
        return _explain_scores(decision.plan, scores, tool_cost)
    if decision.plan:
        return _explain_unscored(decision)
    return _explain_empty_plan(decision)


def _explain_scores(plan: Plan, scores: Mapping[Plan, float], tool_cost: float) -> str:
    """Compares the score of the plan with that of the unchanged photograph."""
    unchanged = f"{scores[()]:.2f}"
    if not plan:
        best = max(filter(None, scores), key=lambda tried: scores[tried] - tool_cost * len(tried))
        reason = (
            f"the critic prefers the photograph as it is: {unchanged} against {scores[best]:.2f} for "
            f"{format_plan(best)}"
        )
        if scores[best] >= scores[()]:
            reason += f", which does not outweigh the tool cost of {tool_cost:g} for each tool"
        return reason
    tried = _count(len(scores) - 1)
    if scores[plan] < scores[()]:
        return (
            "restored as requested, although the critic prefers the photograph as it is: "
            f"{unchanged} against {scores[plan]:.2f} ({tried} tried)"
        )
    return (
        f"the critic scores the result {scores[plan]:.2f} and the unchanged photograph {unchanged} "
        f"({tried} tried)"
    )


def _explain_unscored(decision: Decision) -> str | None:
    """Explains a plan that no score has chosen, by the degradations that the agent sees."""
    if present := _present_degradations(decision):
        return f"the agent sees {', '.join(present)} and wrote this plan; no result was scored"
    if decision.reasoning:
        return None
    if decision.probabilities or decision.degradations is not None:
        return "the agent wrote this plan, although it sees no degradation; no result was scored"
    return "the agent wrote this plan and gives no reason; no result was scored"


def _explain_empty_plan(decision: Decision) -> str:
    if present := _present_degradations(decision):
        return f"the agent wrote the empty plan, although it sees {', '.join(present)}"
    if decision.probabilities:
        return f"no degradation has a probability above {PRESENT}"
    if decision.degradations is not None:
        return "the agent sees no degradation"
    return "the agent wrote the empty plan and gives no reason"


def _present_degradations(decision: Decision) -> list[str]:
    """Returns the degradations that the agent takes for present, the most probable first."""
    if decision.probabilities:
        ranked = sorted(decision.probabilities.items(), key=lambda item: -item[1])
        return [name for name, probability in ranked if probability > PRESENT]
    return sorted(decision.degradations or ())


def _count(plans: int) -> str:
    return "1 plan" if plans == 1 else f"{plans} plans"
