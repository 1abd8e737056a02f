"""Plausible plans fit the degradations of an image."""

from __future__ import annotations

import numpy as np

from opera_agents.common.plausible_plans import plausible_plan
from opera_env.degradations import DEGRADATIONS
from opera_env.tools import Toolbox


def test_plan_has_a_matched_tool_for_each_degradation_last_one_first(toolbox: Toolbox) -> None:
    rng = np.random.default_rng(0)
    degradations = frozenset({"noise", "low_light", "low_resolution"})
    plans = {plausible_plan(toolbox, degradations, rng, 6, 0.0, tool_insertion_prob=0.0) for _ in range(20)}
    assert plans == {("tiny.enlarge", "tiny.blur", "tiny.brighten")}


def test_plans_are_shuffled_and_get_inserted_tools(toolbox: Toolbox) -> None:
    rng = np.random.default_rng(0)
    plans = [
        plausible_plan(toolbox, frozenset({"noise", "low_light"}), rng, 6, 0.5, tool_insertion_prob=0.5)
        for _ in range(200)
    ]
    assert {len(plan) for plan in plans} == {2, 3}
    assert {"tiny.identity", "tiny.darken", "tiny.enlarge"} <= {name for plan in plans for name in plan}
    assert ("tiny.brighten", "tiny.blur") in plans and ("tiny.blur", "tiny.brighten") in plans


def test_plan_of_a_clean_image_is_empty(toolbox: Toolbox) -> None:
    rng = np.random.default_rng(0)
    assert {
        plausible_plan(toolbox, frozenset(), rng, 6, 1.0, tool_insertion_prob=1.0) for _ in range(20)
    } == {()}


def test_plans_are_cut_to_max_tools(toolbox: Toolbox) -> None:
    rng = np.random.default_rng(0)
    assert all(len(plausible_plan(toolbox, frozenset(DEGRADATIONS), rng, 2)) == 2 for _ in range(20))
