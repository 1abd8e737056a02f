"""Plans that make sense for what is wrong: what learners start from, and what the critic has to judge."""

from __future__ import annotations

from numpy.random import Generator

from opera_env.degradations import DEGRADATIONS
from opera_env.tools import Toolbox
from opera_env.types import Plan


def plausible_plan(
    toolbox: Toolbox,
    degradations: frozenset[str],
    rng: Generator,
    max_tools: int,
    tool_insertion_prob: float = 0.25,
) -> Plan:
    """Draws a plan that makes sense: a suitable tool for each degradation, mostly last damage first.

    Args:
        toolbox: The tools; their ``degradations`` say what they are for.
        degradations: What is wrong.
        rng: The only source of chance.
        max_tools: Longest plan.
        tool_insertion_prob: How often the order is any order, and how often one more tool, any, is put in:
            so that nothing is impossible to a policy that learns from such plans.
    """
    plan: list[str] = []
    for degradation in reversed(DEGRADATIONS):
        suitable = [tool.name for tool in toolbox if degradation in tool.degradations]
        if degradation in degradations and suitable:
            plan.append(suitable[rng.integers(len(suitable))])
    if rng.random() < tool_insertion_prob:
        rng.shuffle(plan)
    if plan and rng.random() < tool_insertion_prob:
        plan.insert(int(rng.integers(len(plan) + 1)), toolbox.names[rng.integers(len(toolbox))])
    return tuple(plan[:max_tools])
