"""Candidate plans for a sample: the plans among which a planner that knew all rewards would choose."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from numpy.random import Generator

from opera_agents.common.plausible_plans import plausible_plan
from opera_env.degradations import DEGRADATIONS
from opera_env.tools import Toolbox
from opera_env.types import Plan

_EDIT_PROBABILITIES = {"none": 0.3, "repeat": 0.25, "insert": 0.2, "swap": 0.15, "drop": 0.1}
"""How often a plausible plan is left as it is, or gets one edit before the next is drawn."""

_ATTEMPTS = 20
"""Draws for each missing candidate; small toolboxes have fewer plans than are asked for."""


def candidate_plans(
    toolbox: Toolbox,
    degradations: frozenset[str],
    rng: Generator,
    count: int,
    max_tools: int,
    labels: Sequence[str] = DEGRADATIONS,
) -> list[Plan]:
    """Draws different plans for one sample, the empty plan first.

    Each is a matched tool for each degradation in usual or random order, with up to two edits: a tool is
    repeated, any tool is inserted, a tool is replaced by any other, or a tool is left out.

    Args:
        toolbox: The tools.
        degradations: The degradations of the sample; plans for none of them are drawn for clean samples.
        rng: Source of all randomness.
        count: Number of plans; fewer are returned where the toolbox has no more.
        max_tools: Maximum number of tools in a plan.
        labels: All degradations, in the order in which recipes apply them.
    """
    plans: dict[Plan, None] = {(): None}
    for _ in range(_ATTEMPTS * count):
        if len(plans) >= count:
            break
        plan = plausible_plan(
            toolbox, degradations, rng, max_tools, shuffle_prob=0.4, tool_insertion_prob=0.0, labels=labels
        )
        for _ in range(1 if plan else 0, 3):
            plan = _edit(plan, toolbox.names, rng)
        plans[plan[:max_tools]] = None
    return list(plans)[:count]


def refine_plans(
    best: Sequence[Plan],
    known: Iterable[Plan],
    names: Sequence[str],
    rng: Generator,
    count: int,
    max_tools: int,
) -> list[Plan]:
    """Draws plans that differ from good ones by one to three edits, and from all known ones.

    Args:
        best: Good plans, each of which is edited as often as the others.
        known: Plans that are not returned.
        names: Names of the tools.
        rng: Source of all randomness.
        count: Number of plans; fewer are returned where no others are found.
        max_tools: Maximum number of tools in a plan.
    """
    excluded = set(known)
    plans: dict[Plan, None] = {}
    for attempt in range(_ATTEMPTS * count):
        if len(plans) >= count:
            break
        plan = best[attempt % len(best)]
        for _ in range(int(rng.integers(1, 4))):
            plan = _edit(plan, names, rng)
        if plan[:max_tools] not in excluded:
            plans[plan[:max_tools]] = None
    return list(plans)


def _edit(plan: Plan, names: Sequence[str], rng: Generator) -> Plan:
    """Returns the plan with one random edit, or unchanged; an empty plan gets a tool."""
    kind = str(rng.choice(list(_EDIT_PROBABILITIES), p=list(_EDIT_PROBABILITIES.values())))
    tools, any_tool = list(plan), names[int(rng.integers(len(names)))]
    if not tools:
        return (any_tool,)
    position = int(rng.integers(len(tools)))
    if kind == "repeat":
        tools.insert(int(rng.integers(len(tools) + 1)), tools[position])
    elif kind == "insert":
        tools.insert(int(rng.integers(len(tools) + 1)), any_tool)
    elif kind == "swap":
        tools[position] = any_tool
    elif kind == "drop":
        del tools[position]
    return tuple(tools)
