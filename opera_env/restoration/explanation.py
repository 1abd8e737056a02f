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
        One line; None if the reason for the plan is not known.
    """
    if not decision.plan:
        return _explain_unchanged(decision, scores, tool_cost)
    if () not in scores or decision.plan not in scores:
        return None
    return (
        f"the critic scores the result {scores[decision.plan]:.2f} and the unchanged photograph "
        f"{scores[()]:.2f} ({_count(len(scores) - 1)} tried)"
    )


def _explain_unchanged(decision: Decision, scores: Mapping[Plan, float], tool_cost: float) -> str:
    rewards = {plan: score - tool_cost * len(plan) for plan, score in scores.items() if plan}
    if rewards and () in scores:
        best = max(rewards, key=rewards.__getitem__)
        reason = (
            f"the critic prefers the photograph as it is: {scores[()]:.2f} against {scores[best]:.2f} for "
            f"{format_plan(best)}"
        )
        if scores[best] >= scores[()]:
            reason += f", which does not outweigh the tool cost of {tool_cost:g} for each tool"
        return reason
    if decision.probabilities:
        ranked = sorted(decision.probabilities.items(), key=lambda item: -item[1])
        present = [name for name, probability in ranked if probability > PRESENT]
        if not present:
            return f"no degradation has a probability above {PRESENT}"
        return f"the agent wrote the empty plan, although it sees {', '.join(present)}"
    if decision.degradations is not None and not decision.degradations:
        return "the agent sees no degradation"
    return "the agent wrote the empty plan and gives no reason"


def _count(plans: int) -> str:
    return "1 plan" if plans == 1 else f"{plans} plans"
