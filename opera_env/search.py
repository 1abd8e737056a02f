"""Functions for searches: score many plans, beam search, and the choice of the best plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

from opera_env.reward import env_reward
from opera_env.types import Plan, Sample, Scorer

PlanRewards = dict[Plan, float]
"""Rewards of the plans that were scored on one sample, see :func:`opera_env.reward.env_reward`."""


def plan_rewards(
    samples: Sequence[Sample], plans: Sequence[Plan], scorer: Scorer, tool_cost: float = 0.0
) -> list[float]:
    """Scores one plan per sample and returns the rewards: R_q less ``tool_cost`` for each tool.

    Args:
        samples: The samples.
        plans: One plan per sample.
        scorer: Scores the plans.
        tool_cost: Cost of each tool, in units of R_q.
    """
    outcomes = scorer.score(samples, plans, restored=False)
    return [env_reward(outcome, tool_cost) for outcome in outcomes]


def best_plan(rewards: Mapping[Plan, float], margin: float = 0.0) -> Plan:
    """Returns the shortest plan whose reward is within ``margin`` of the highest reward.

    Among plans of equal length the one with the higher reward is returned.

    Args:
        rewards: Rewards of at least one plan.
        margin: How far a reward may be below the highest, in units of R_q.

    Example:
        >>> best_plan({(): 1.0, ("a",): 3.0, ("a", "a"): 3.01}, margin=0.05)
        ('a',)
    """
    highest = max(rewards.values())
    close = [plan for plan, reward in rewards.items() if reward >= highest - margin]
    return min(close, key=lambda plan: (len(plan), -rewards[plan]))


def all_plans(names: Sequence[str], max_length: int) -> list[Plan]:
    """Returns every plan of at most ``max_length`` tools, with repeated tools, shortest first.

    Example:
        >>> all_plans(("a", "b"), 1)
        [(), ('a',), ('b',)]
    """
    return [plan for length in range(max_length + 1) for plan in product(names, repeat=length)]


def beam_search(
    samples: Sequence[Sample], scorer: Scorer, width: int, max_tools: int, tool_cost: float = 0.0
) -> list[PlanRewards]:
    """Extends the best plans of each length by every tool, for several samples at once.

    The plan of greedy search, which always adds the best next tool, keeps one place in every beam. The
    result of greedy search is therefore among the scored plans.

    Args:
        samples: The samples.
        scorer: Scores plans.
        width: Number of plans kept per length and sample.
        max_tools: Maximum number of tools in a plan.
        tool_cost: Cost of each tool, in units of R_q.

    Returns:
        Per sample the rewards of all scored plans, including the empty plan.
    """
    scored: list[PlanRewards] = [
        {(): reward} for reward in plan_rewards(samples, [()] * len(samples), scorer)
    ]
    beams: list[list[Plan]] = [[()] for _ in samples]
    greedy: list[Plan] = [() for _ in samples]
    for _ in range(max_tools):
        candidates = [
            (index, (*prefix, name))
            for index, prefixes in enumerate(beams)
            for prefix in prefixes
            for name in scorer.tool_names
        ]
        rewards = plan_rewards(
            [samples[index] for index, _ in candidates], [plan for _, plan in candidates], scorer, tool_cost
        )
        extended: list[PlanRewards] = [{} for _ in samples]
        for (index, plan), reward in zip(candidates, rewards, strict=True):
            extended[index][plan] = reward
        for index, plans in enumerate(extended):
            scored[index] |= plans
            beams[index] = sorted(plans, key=plans.__getitem__, reverse=True)[:width]
            greedy[index] = max(
                (plan for plan in plans if plan[:-1] == greedy[index]), key=plans.__getitem__
            )
            if greedy[index] not in beams[index]:
                beams[index][-1] = greedy[index]
    return scored
