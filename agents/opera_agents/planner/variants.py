"""Plans with one thing changed: a look beyond what the policy draws."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from opera_agents.planner.policy import Draft, Likelihood
from opera_env.plan import STOP

_FORGETS = 0.95
"""What is left of a success after one update."""


class Proposals:
    """Which tools changes try: half of the time any, half of the time those that have been of use.

    Args:
        tools: How many there are.

    Attributes:
        successes: By how much changes that put a tool in have beaten their group, lately, (tools,).
    """

    def __init__(self, tools: int) -> None:
        self.successes = torch.zeros(tools, dtype=torch.float64)

    @property
    def chances(self) -> NDArray[np.float64]:
        """Probability of each tool."""
        even = torch.full_like(self.successes, 1 / len(self.successes))
        total = self.successes.sum()
        return (even if total == 0 else 0.5 * even + 0.5 * self.successes / total).numpy()

    def note(self, variants: Variants) -> None:
        """Takes a batch's variants into account."""
        self.successes *= _FORGETS
        for tool, better in zip(variants.tried, variants.better.tolist(), strict=True):
            if tool != STOP:
                self.successes[tool - 1] += better


@dataclass(frozen=True)
class Variants:
    """Changed plans of a batch, several for each photograph.

    Attributes:
        draft: The plans, with the sets of the decisions they were made of, (photographs * V, ...).
        tried: The tool that was put into each, 1 to N, or STOP.
        before: How likely they were.
        better: How much better than their group they are, in its deviations; 0 if they are not.
    """

    draft: Draft
    tried: list[int]
    before: Likelihood
    better: Tensor


def vary(
    draft: Draft, group: int, count: int, proposals: Proposals, rng: Generator
) -> tuple[Draft, list[int]]:
    """Changes one thing in some plans of each group.

    Args:
        draft: Decisions, group by group.
        group: Decisions in a group.
        count: Variants per group.
        proposals: Which tools are tried.
        rng: The only source of chance.

    Returns:
        The changed decisions, and the tool that was put into each.
    """
    groups, longest = len(draft.tokens) // group, draft.tokens.shape[1]
    rows = [number * group + int(rng.integers(group)) for number in range(groups) for _ in range(count)]
    changed = torch.full((len(rows), longest), STOP, dtype=draft.tokens.dtype)
    tried: list[int] = []
    for place, row in enumerate(rows):
        plan = [token for token in draft.tokens[row].tolist() if token != STOP]
        tool = 1 + int(rng.choice(len(proposals.chances), p=proposals.chances))
        plan, tool = changed_plan(plan, tool, longest, rng)
        changed[place, : len(plan)] = torch.tensor(plan, dtype=changed.dtype)
        tried.append(tool)
    return Draft(draft.labels[rows], changed.to(draft.tokens.device)), tried


def changed_plan(plan: list[int], tool: int, longest: int, rng: Generator) -> tuple[list[int], int]:
    """Returns a plan with a tool put in or put in another's place, or with one left out.

    A third of the changes put it at the end: what mends what the tools before it have left.

    Returns:
        The plan, and the tool that is in it now, or STOP.

    Example:
        >>> from numpy.random import default_rng
        >>> [changed_plan([3, 1], 9, 6, default_rng(seed)) for seed in range(4)]
        [([3, 9], 9), ([3, 1, 9], 9), ([3, 1, 9], 9), ([3, 1, 9], 9)]
    """
    chance, place = rng.random(), int(rng.integers(len(plan) + 1))
    if (chance < 0.6 and len(plan) < longest) or not plan:
        place = len(plan) if chance < 0.33 else place
        return [*plan[:place], tool, *plan[place:]], tool
    place = min(place, len(plan) - 1)
    if chance < 0.8:
        return [*plan[:place], tool, *plan[place + 1 :]], tool
    return [*plan[:place], *plan[place + 1 :]], STOP
