"""The plans that critics are trained and evaluated on."""

from __future__ import annotations

import numpy as np
from torch import nn

from opera_agents.critic.plans import draw_distinct_plans, draw_plans, perturbed_plausible_plan, random_plan
from opera_env.data import Source
from opera_env.tools import Toolbox


def test_plans_are_listed_with_their_prefixes(toolbox: Toolbox) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        plans = draw_plans(toolbox, frozenset({"noise", "low_light"}), rng, 2, 1)
        assert plans[0] == () and len(set(plans)) == len(plans)
        assert all(plan[:-1] in plans for plan in plans if plan)
    assert draw_plans(toolbox, frozenset(), rng, 0, 0) == [()]


def test_random_plans_have_all_lengths_and_few_upscaling_tools(toolbox: Toolbox) -> None:
    rng = np.random.default_rng(0)
    plans = [random_plan(toolbox, rng) for _ in range(600)]
    assert {len(plan) for plan in plans} == {1, 2, 3, 4, 5, 6}
    names = [name for plan in plans for name in plan]
    counts = {name: names.count(name) for name in toolbox.names}
    other_counts = [count for name, count in counts.items() if name != "tiny.enlarge"]
    assert 0 < counts["tiny.enlarge"] < 0.5 * min(other_counts)


def test_perturbed_plans_have_all_matched_tools_and_sometimes_repeat_one(toolbox: Toolbox) -> None:
    rng = np.random.default_rng(0)
    plans = [perturbed_plausible_plan(toolbox, frozenset({"noise", "low_light"}), rng) for _ in range(200)]
    assert all({"tiny.blur", "tiny.brighten"} <= set(plan) for plan in plans)
    assert any(len(set(plan)) < len(plan) for plan in plans)
    assert sum(len(plan) == 2 for plan in plans) > 50


def test_plans_restore_own_degradations_in_the_order_of_the_labels(toolbox: Toolbox) -> None:
    toolbox.add("tiny.despeckle", nn.Identity(), degradations=["salt_and_pepper"])
    rng, labels = np.random.default_rng(0), ("low_light", "salt_and_pepper")
    plans = [
        perturbed_plausible_plan(toolbox, frozenset(labels), rng, 2, labels=labels) for _ in range(200)
    ]
    in_order, reversed_order = (
        sum(plan == order for plan in plans)
        for order in (("tiny.despeckle", "tiny.brighten"), ("tiny.brighten", "tiny.despeckle"))
    )
    assert in_order > 2 * reversed_order > 0


def test_distinct_plans_have_the_requested_number(toolbox: Toolbox, source: Source) -> None:
    rng = np.random.default_rng(0)
    plans = draw_distinct_plans(toolbox, source.make(source.draw(rng)), rng, 24)
    assert len(plans) == len(set(plans)) == 24 and plans[0] == ()
