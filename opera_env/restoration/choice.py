"""Choices among results that the critic has scored: eagerness, variants, and the strength of a result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from opera_env.data.images import quantise, resize
from opera_env.scoring import PlanScorer
from opera_env.search import best_plan
from opera_env.tools import Toolbox
from opera_env.types import Plan, Sample

NEUTRAL = 0.5
"""Eagerness at which the scores decide as they are."""

EAGER_POINTS = 2.0
"""Points of the score, from 0 to 10, that full eagerness adds to every plan but the empty one."""

STRENGTHS = (0.25, 0.5, 0.75, 1.0)
"""Strengths among which the critic chooses."""


def eager_bonus(eager: float) -> float:
    """Returns what a plan with tools gets above the unchanged photograph, in points of the score.

    Example:
        >>> eager_bonus(0.5), eager_bonus(1.0), eager_bonus(0.25)
        (0.0, 2.0, -1.0)
    """
    return EAGER_POINTS * (eager - NEUTRAL) / (1 - NEUTRAL)


def choose_plan(scores: Mapping[Plan, float], tool_cost: float, eager: float) -> Plan:
    """Returns the plan with the highest score less the cost of its tools.

    Args:
        scores: Score of each plan that was tried, the empty one included.
        tool_cost: Cost of each tool, in units of the score.
        eager: From 0, leave alone in doubt, to 1, act in doubt.
    """
    bonus = eager_bonus(eager)
    return best_plan(
        {plan: score - tool_cost * len(plan) + bool(plan) * bonus for plan, score in scores.items()}
    )


def suspected_plans(
    toolbox: Toolbox, probabilities: Mapping[str, float], eager: float, max_tools: int
) -> list[Plan]:
    """Returns plans for the degradations that an eager person takes for present.

    Args:
        toolbox: The tools.
        probabilities: Probability of each degradation, in the order in which they happen to a photograph.
        eager: Degradations above a probability of ``1 - eager`` are taken for present.
        max_tools: Maximum number of tools in a plan.

    Returns:
        The first suitable tool for each of these degradations alone, and all of them, the last degradation
        first.
    """
    suitable = {
        label: next((tool.name for tool in toolbox if label in tool.degradations), None)
        for label, probability in reversed(list(probabilities.items()))
        if probability > 1 - eager
    }
    tools = tuple(dict.fromkeys(name for name in suitable.values() if name is not None))[:max_tools]
    return list(dict.fromkeys([*((name,) for name in tools), tools])) if tools else []


def likely_plans(toolbox: Toolbox, probabilities: Mapping[str, float]) -> list[Plan]:
    """Returns the first suitable tool for each degradation alone, the most probable degradation first."""
    ranked = sorted(probabilities, key=lambda label: -probabilities[label])
    tools = (next((tool.name for tool in toolbox if label in tool.degradations), None) for label in ranked)
    return [(name,) for name in dict.fromkeys(tools) if name is not None]


def best_variants(scores: Mapping[Plan, float], tool_cost: float, count: int) -> list[Plan]:
    """Returns the best plans with tools that were tried, at most ``count``, the best first."""
    plans = [plan for plan in scores if plan]
    return sorted(plans, key=lambda plan: tool_cost * len(plan) - scores[plan])[:count]


def score_strengths(scorer: PlanScorer, sample: Sample, plan: Plan) -> dict[float, float]:
    """Scores the result of a plan, blended with the photograph at each of :data:`STRENGTHS`.

    Args:
        scorer: A scorer whose reward needs no reference.
        sample: The window of the photograph.
        plan: The plan.
    """
    (outcome,) = scorer.score([sample], [plan])
    unchanged = resize(sample.lq[None], sample.canvas)
    blends = torch.cat(
        [quantise(blend(unchanged, outcome.image()[None], strength)) for strength in STRENGTHS]
    )
    rows = scorer.metrics(blends, [])
    values = [float(sum(scorer.reward.contributions(row, plan).values())) for row in rows]
    return dict(zip(STRENGTHS, values, strict=True))


def best_strength(values: Mapping[float, float]) -> float:
    """Returns the strength with the highest score; the stronger of equal ones."""
    return max(values, key=lambda strength: (values[strength], strength))


def blend(unchanged: Tensor, restored: Tensor, strength: float) -> Tensor:
    """Returns the photograph at strength 0, the result at strength 1, and a mixture between them."""
    return restored if strength == 1 else torch.lerp(unchanged, restored, strength)


def rank_trials(scores: Mapping[Plan, float], tool_cost: float) -> Sequence[tuple[Plan, float]]:
    """Returns the plans that were tried with their scores, the best after the cost of tools first."""
    return sorted(scores.items(), key=lambda item: tool_cost * len(item[0]) - item[1])
