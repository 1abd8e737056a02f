"""Plans that make sense."""

from __future__ import annotations

import numpy as np

from opera_agents.common.plausible_plans import plausible_plan
from opera_env.degradations import DEGRADATIONS
from opera_env.tools import Toolbox


def test_plans_mend_what_is_wrong_in_domain_order(toolbox: Toolbox) -> None:
    rng = np.random.default_rng(0)
    wrong = frozenset({"noise", "low_light", "low_resolution"})
    plans = {plausible_plan(toolbox, wrong, rng, 6, 0.0, tool_insertion_prob=0.0) for _ in range(20)}
    assert plans == {("tiny.enlarge", "tiny.blur", "tiny.brighten")}


def test_surprises_reorder_and_add(toolbox: Toolbox) -> None:
    rng = np.random.default_rng(0)
    plans = [
        plausible_plan(toolbox, frozenset({"noise", "low_light"}), rng, 6, 0.5, tool_insertion_prob=0.5)
        for _ in range(200)
    ]
    assert {len(plan) for plan in plans} == {2, 3}
    assert {"tiny.identity", "tiny.darken", "tiny.enlarge"} <= {name for plan in plans for name in plan}
    assert ("tiny.brighten", "tiny.blur") in plans and ("tiny.blur", "tiny.brighten") in plans


def test_nothing_is_done_to_what_has_nothing(toolbox: Toolbox) -> None:
    rng = np.random.default_rng(0)
    assert {
        plausible_plan(toolbox, frozenset(), rng, 6, 1.0, tool_insertion_prob=1.0) for _ in range(20)
    } == {()}


def test_plans_are_cut(toolbox: Toolbox) -> None:
    rng = np.random.default_rng(0)
    assert all(len(plausible_plan(toolbox, frozenset(DEGRADATIONS), rng, 2)) == 2 for _ in range(20))
