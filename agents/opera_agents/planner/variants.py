"""Plans with one thing changed: a look beyond what the policy draws."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from numpy.random import Generator
from torch import Tensor

from opera_agents.planner.policy import Draft, Likelihood
from opera_env.plan import STOP


@dataclass(frozen=True)
class Variants:
    """Changed plans of a batch, several for each photograph.

    Attributes:
        draft: The plans, with the sets of the decisions they were made of, (photographs * V, ...).
        before: How likely they were.
        better: How much better than their group they are, in its deviations; 0 if they are not.
    """

    draft: Draft
    before: Likelihood
    better: Tensor


def vary(draft: Draft, group: int, count: int, tools: int, rng: Generator) -> Draft:
    """Changes one thing in some plans of each group: puts a tool in, takes another, or leaves one out.

    Args:
        draft: Decisions, group by group.
        group: Decisions in a group.
        count: Variants per group.
        tools: How many tools there are.
        rng: The only source of chance.
    """
    groups = len(draft.tokens) // group
    rows = [number * group + int(rng.integers(group)) for number in range(groups) for _ in range(count)]
    longest = draft.tokens.shape[1]
    changed = torch.full((len(rows), longest), STOP, dtype=draft.tokens.dtype)
    for place, row in enumerate(rows):
        plan = changed_plan([token for token in draft.tokens[row].tolist() if token != STOP], tools, rng)
        changed[place, : min(len(plan), longest)] = torch.tensor(plan[:longest], dtype=changed.dtype)
    return Draft(draft.labels[rows], changed.to(draft.tokens.device))


def changed_plan(plan: list[int], tools: int, rng: Generator) -> list[int]:
    """Returns a plan of tools 1 to ``tools`` with a tool put in (half of the time), exchanged or left out.

    Example:
        >>> from numpy.random import default_rng
        >>> [changed_plan([3, 1], 9, default_rng(seed)) for seed in range(3)]
        [[5, 1], [3, 7], [1, 3, 1]]
    """
    chance, tool = rng.random(), int(rng.integers(1, tools + 1))
    if chance < 0.5 or not plan:
        place = int(rng.integers(len(plan) + 1))
        return [*plan[:place], tool, *plan[place:]]
    place = int(rng.integers(len(plan)))
    return [*plan[:place], *([tool] if chance < 0.75 else []), *plan[place + 1 :]]
