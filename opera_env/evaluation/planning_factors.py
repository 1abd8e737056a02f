"""Planning factors: the decisions of a planner, and how much each can gain on an image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import permutations

import numpy as np

from opera_env.types import Plan

PlanScores = Mapping[Plan, float]
"""Score of every plan on one sample, higher is better."""

PlanningFactor = Callable[[PlanScores, Sequence[str]], float]
"""Maps the scores of all plans and the matched tools, one for each degradation, to a gain."""


def matched_orders(matched: Sequence[str]) -> list[Plan]:
    """Lists the plans that use each matched tool once.

    Example:
        >>> matched_orders(["a", "b"])
        [('a', 'b'), ('b', 'a')]
    """
    return list(permutations(matched))


def _best(scores: PlanScores, plans: Iterable[Plan]) -> float:
    return max(scores[plan] for plan in plans)


def _order_effect(scores: PlanScores, matched: Sequence[str]) -> float:
    orders = [scores[plan] for plan in matched_orders(matched)]
    return max(orders) - min(orders)


def _random_order_effect(scores: PlanScores, matched: Sequence[str]) -> float:
    orders = [scores[plan] for plan in matched_orders(matched)]
    return max(orders) - float(np.mean(orders))


def _omission_effect(scores: PlanScores, matched: Sequence[str]) -> float:
    subsets = [plan for size in range(len(matched) + 1) for plan in permutations(matched, size)]
    return _best(scores, subsets) - _best(scores, matched_orders(matched))


def _repetition_effect(scores: PlanScores, matched: Sequence[str]) -> float:
    allowed = [plan for plan in scores if set(plan) <= set(matched)]
    once = [plan for plan in allowed if len(set(plan)) == len(plan)]
    return _best(scores, allowed) - _best(scores, once)


def _unmatched_effect(scores: PlanScores, matched: Sequence[str]) -> float:
    once = [plan for plan in scores if len(set(plan)) == len(plan)]
    return _best(scores, once) - _best(scores, [plan for plan in once if set(plan) <= set(matched)])


def _any_plan_effect(scores: PlanScores, matched: Sequence[str]) -> float:
    return _best(scores, scores) - _best(scores, matched_orders(matched))


PLANNING_FACTORS: Mapping[str, PlanningFactor] = {
    "matched tools, best order less worst": _order_effect,
    "matched tools, best order less a random one": _random_order_effect,
    "leaving matched tools out": _omission_effect,
    "repeating matched tools": _repetition_effect,
    "adding unmatched tools": _unmatched_effect,
    "any plan less the best matched order": _any_plan_effect,
}
"""The factors by name. Each takes the best plan of each image, so its gain includes the winner's curse."""

CONSTANT_PLAN = "one plan for all images of a recipe, chosen on the others"
"""The best constant plan less the best constant order of the matched tools, both chosen on the other images
of the recipe: without the winner's curse."""
