"""What searches are made of: scoring many plans, widening a beam, choosing among what was tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

from opera_env.reward import env_reward
from opera_env.types import Plan, Sample, Scorer

PlanRewards = dict[Plan, float]
"""Plans that were scored on one sample: R_q less the cost of the tools."""


def plan_rewards(
    samples: Sequence[Sample], plans: Sequence[Plan], scorer: Scorer, tool_cost: float = 0.0
) -> list[float]:
    """Scores one plan per sample; R_q less the cost of the tools."""
    outcomes = scorer.score(samples, plans, restored=False)
    return [env_reward(outcome, tool_cost) for outcome in outcomes]


def best_plan(tried: Mapping[Plan, float], margin: float = 0.0) -> Plan:
    """Returns the best plan; of those within ``margin`` of it, the shortest, then the best.

    Example:
        >>> best({(): 1.0, ("a",): 3.0, ("a", "a"): 3.01}, margin=0.05)
        ('a',)
    """
    highest = max(tried.values())
    close = [plan for plan, value in tried.items() if value >= highest - margin]
    return min(close, key=lambda plan: (len(plan), -tried[plan]))


def all_plans(names: Sequence[str], max_length: int) -> list[Plan]:
    """Lists every plan up to a length, repeats included, shortest first.

    Example:
        >>> all_plans(("a", "b"), 1)
        [(), ('a',), ('b',)]
    """
    return [plan for length in range(max_length + 1) for plan in product(names, repeat=length)]


def beam_search(
    samples: Sequence[Sample], scorer: Scorer, width: int, max_tools: int, tool_cost: float = 0.0
) -> list[PlanRewards]:
    """Extends the best prefixes of each length by every tool, for several samples in step.

    The prefix that always follows the best next tool keeps one of the places, so that what
    greedy search would find is among the plans tried.

    Args:
        samples: The images.
        scorer: Judges plans.
        width: Prefixes kept per length and sample.
        max_tools: Longest plan.
        tool_cost: Taken from R_q per tool.

    Returns:
        All plans tried, per sample, the empty one among them.
    """
    tried: list[PlanRewards] = [{(): value} for value in plan_rewards(samples, [()] * len(samples), scorer)]
    beams: list[list[Plan]] = [[()] for _ in samples]
    greedy: list[Plan] = [() for _ in samples]
    for _ in range(max_tools):
        tries = [
            (index, (*prefix, name))
            for index, prefixes in enumerate(beams)
            for prefix in prefixes
            for name in scorer.tool_names
        ]
        found = plan_rewards(
            [samples[index] for index, _ in tries], [plan for _, plan in tries], scorer, tool_cost
        )
        levels: list[PlanRewards] = [{} for _ in samples]
        for (index, plan), value in zip(tries, found, strict=True):
            levels[index][plan] = value
        for index, level in enumerate(levels):
            tried[index] |= level
            beams[index] = sorted(level, key=level.__getitem__, reverse=True)[:width]
            greedy[index] = max(
                (plan for plan in level if plan[:-1] == greedy[index]), key=level.__getitem__
            )
            if greedy[index] not in beams[index]:
                beams[index][-1] = greedy[index]
    return tried
