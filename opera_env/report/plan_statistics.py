"""What the plans of an agent have in common: tools that follow each other, lengths, order and repeats."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from opera_env.evaluation.results import Result
from opera_env.types import Plan

START, STOP = "start", "stop"
"""The states before the first tool and after the last."""


@dataclass(frozen=True)
class Share:
    """How many of some plans have a property.

    Attributes:
        name: The property.
        count: Number of plans that have it.
        total: Number of plans that could have it.
    """

    name: str
    count: int
    total: int

    @property
    def fraction(self) -> float | None:
        """The share of the plans; None if no plan could have the property."""
        return self.count / self.total if self.total else None


@dataclass(frozen=True)
class PlanStatistics:
    """Statistics of the plans of one toolbox and agent.

    Attributes:
        states: The tools that occur, between :data:`START` and :data:`STOP`.
        transitions: How often the state of the column follows that of the row.
        lengths: Mean number of tools by number of degradations of the sample; 0 is clean.
        order: Order of tools and repeats, as in the paper's section 5.3.

    Source: section 5.3 of the paper, which reports that noise is removed first, rain before haze, and that
        deblurring tools are repeated more than others.
    """

    states: tuple[str, ...]
    transitions: tuple[tuple[int, ...], ...]
    lengths: Mapping[int, float]
    order: tuple[Share, ...]


def plan_statistics(
    results: Sequence[Result], degradations: Mapping[str, frozenset[str]]
) -> PlanStatistics:
    """Computes the statistics of the plans of one entry.

    Args:
        results: The results of one toolbox and agent.
        degradations: The degradations that each tool is for, by its name; tools that are absent are for
            none.
    """
    plans = [result.plan for result in results]
    steps = Counter(step for plan in plans for step in zip((START, *plan), (*plan, STOP), strict=True))
    tools = sorted({name for plan in plans for name in plan})
    states = (START, *tools, STOP)
    by_number: dict[int, list[int]] = {}
    for result in results:
        by_number.setdefault(len(result.spec.recipe), []).append(len(result.plan))
    return PlanStatistics(
        states=states,
        transitions=tuple(tuple(steps[row, column] for column in states) for row in states),
        lengths={number: sum(sizes) / len(sizes) for number, sizes in sorted(by_number.items())},
        order=_order_shares(plans, degradations),
    )


def _order_shares(plans: Sequence[Plan], degradations: Mapping[str, frozenset[str]]) -> tuple[Share, ...]:
    """Returns the shares of plans with the orders and repeats that the paper reports."""
    removed = [[degradations.get(name, frozenset()) for name in plan] for plan in plans]

    def positions(plan: Sequence[frozenset[str]], names: frozenset[str]) -> list[int]:
        return [position for position, tool in enumerate(plan) if tool & names]

    noise, rain, haze = frozenset({"noise"}), frozenset({"rain"}), frozenset({"haze"})
    blur = frozenset({"motion_blur", "defocus_blur"})
    with_noise = [plan for plan in removed if positions(plan, noise) and len(plan) > 1]
    both = [plan for plan in removed if positions(plan, rain) and positions(plan, haze)]
    shares = [
        Share(
            "noise is removed first",
            sum(0 in positions(plan, noise) for plan in with_noise),
            len(with_noise),
        ),
        Share(
            "rain is removed before haze",
            sum(positions(plan, rain)[0] < positions(plan, haze)[0] for plan in both),
            len(both),
        ),
    ]
    for title, names in {"deblurring is repeated": blur, "denoising is repeated": noise}.items():
        counts = [len(positions(plan, names)) for plan in removed if positions(plan, names)]
        shares.append(Share(title, sum(count > 1 for count in counts), len(counts)))
    repeats = sum(len(set(plan)) < len(plan) for plan in plans)
    return (*shares, Share("a tool is repeated", repeats, sum(len(plan) > 0 for plan in plans)))
