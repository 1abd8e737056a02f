"""Random and plausible plans whose results critics are trained and evaluated on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.random import Generator

from opera_agents.common.plausible_plans import plausible_plan
from opera_env.degradations import DEGRADATIONS
from opera_env.tools import Toolbox
from opera_env.types import Plan, Sample


def random_plan(toolbox: Toolbox, rng: Generator, max_tools: int = 6) -> Plan:
    """Draws a plan of 1 to ``max_tools`` tools.

    Upscaling tools have a quarter of the probability of others, because they are slow on a full canvas.
    """
    weights = np.array([1.0 if tool.scale == 1 else 0.25 for tool in toolbox])
    length = int(rng.integers(1, max_tools + 1))
    indices = rng.choice(len(toolbox), length, p=weights / weights.sum())
    return tuple(toolbox.names[index] for index in indices)


def perturbed_plausible_plan(
    toolbox: Toolbox,
    degradations: frozenset[str],
    rng: Generator,
    max_tools: int = 6,
    labels: Sequence[str] = DEGRADATIONS,
) -> Plan:
    """Draws a plausible plan that is often shuffled, or has an inserted or a repeated tool."""
    plan = plausible_plan(
        toolbox,
        degradations,
        rng,
        max_tools,
        shuffle_prob=0.4,
        tool_insertion_prob=0.4,
        labels=labels,
    )
    if plan and len(plan) < max_tools and rng.random() < 0.25:
        return (*plan, plan[rng.integers(len(plan))])
    return plan


def draw_plans(
    toolbox: Toolbox,
    degradations: frozenset[str],
    rng: Generator,
    num_plausible: int,
    num_random: int,
    labels: Sequence[str] = DEGRADATIONS,
) -> list[Plan]:
    """Draws plans for one image; returns them with all their prefixes, the empty plan first.

    Args:
        toolbox: The tools.
        degradations: The image's degradations.
        rng: Source of all randomness.
        num_plausible: Number of perturbed plausible plans.
        num_random: Number of random plans.
        labels: All degradations, in the order in which recipes apply them.
    """
    plans = [
        perturbed_plausible_plan(toolbox, degradations, rng, labels=labels) for _ in range(num_plausible)
    ]
    plans += [random_plan(toolbox, rng) for _ in range(num_random)]
    return list(dict.fromkeys(plan[:length] for plan in plans for length in range(len(plan) + 1))) or [()]


def draw_distinct_plans(
    toolbox: Toolbox,
    sample: Sample,
    rng: Generator,
    count: int,
    labels: Sequence[str] = DEGRADATIONS,
) -> list[Plan]:
    """Draws exactly ``count`` different plans for a sample, the empty plan first."""
    plans: dict[Plan, None] = {}
    while len(plans) < count:
        plans |= dict.fromkeys(draw_plans(toolbox, sample.degradations or frozenset(), rng, 2, 1, labels))
    return list(plans)[:count]
