"""Random plans that fit an image's degradations: for the warm starts and the critic's training data."""

from __future__ import annotations

from collections.abc import Sequence

from numpy.random import Generator

from opera_env.degradations import DEGRADATIONS
from opera_env.tools import Toolbox
from opera_env.types import Plan


def plausible_plan(
    toolbox: Toolbox,
    degradations: frozenset[str],
    rng: Generator,
    max_tools: int,
    shuffle_prob: float = 0.25,
    tool_insertion_prob: float = 0.25,
    labels: Sequence[str] = DEGRADATIONS,
) -> Plan:
    """Draws a plan with one matched tool for each degradation, usually the last degradation first.

    Shuffled plans and inserted tools keep a policy that imitates such plans from giving any plan a
    probability of zero.

    Args:
        toolbox: The tools; a tool matches the degradations that its ``degradations`` name.
        degradations: The degradations of the image.
        rng: Draws the tools and everything else.
        max_tools: Maximum number of tools in a plan; longer plans are cut.
        shuffle_prob: Probability that the order of the tools is random.
        tool_insertion_prob: Probability that one more tool, any of the toolbox, is inserted anywhere.
        labels: All degradations, in the order in which recipes apply them.
    """
    plan: list[str] = []
    for degradation in reversed(labels):
        matched_tools = [tool.name for tool in toolbox if degradation in tool.degradations]
        if degradation in degradations and matched_tools:
            plan.append(matched_tools[rng.integers(len(matched_tools))])
    if rng.random() < shuffle_prob:
        rng.shuffle(plan)
    if plan and rng.random() < tool_insertion_prob:
        plan.insert(int(rng.integers(len(plan) + 1)), toolbox.names[rng.integers(len(toolbox))])
    return tuple(plan[:max_tools])
