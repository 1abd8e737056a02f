"""Whose plans tools are trained under."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from opera_agents.execution.plans import PlanMixture, short_plan
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import Decision, Observation, Sample


class Brightens:
    """Plans the same for everybody."""

    closed_loop = False

    def act(self, observations: Sequence[Observation]) -> list[Decision]:
        return [Decision(("tiny.brighten",) * 4) for _ in observations]


def _mixture(toolbox: Toolbox, random: float, control: bool = False) -> PlanMixture:
    return PlanMixture(Brightens(), PlanScorer(toolbox, "classic"), random, 4, control)


def test_the_agents_plans_and_random_ones(toolbox: Toolbox, samples: list[Sample]) -> None:
    many = samples * 50
    seeds = [(7, row) for row in range(len(many))]
    assert set(_mixture(toolbox, 0.0).choose(many, seeds)) == {("tiny.brighten",) * 4}
    plans = _mixture(toolbox, 0.3).choose(many, seeds)
    share = np.mean([len(plan) <= 3 for plan in plans])
    assert 0.2 < share < 0.4
    assert plans == _mixture(toolbox, 0.3).choose(many, seeds)
    assert plans[3] == _mixture(toolbox, 0.3).choose(many[3:4], seeds[3:4])[0], "whatever is beside it"


def test_the_control_has_one_suitable_tool(toolbox: Toolbox, samples: list[Sample]) -> None:
    single = [sample for sample in samples if len(sample.degradations or ()) == 1]
    plans = _mixture(toolbox, 0.5, control=True).choose(single, [(0, row) for row in range(len(single))])
    for sample, plan in zip(single, plans, strict=True):
        assert len(plan) == 1 and toolbox[plan[0]].degradations >= (sample.degradations or frozenset())


def test_short_plans_have_one_to_three_tools(toolbox: Toolbox) -> None:
    plans = [short_plan(toolbox, np.random.default_rng(seed)) for seed in range(200)]
    assert {len(plan) for plan in plans} == {1, 2, 3}
    assert {name for plan in plans for name in plan} == set(toolbox.names)
