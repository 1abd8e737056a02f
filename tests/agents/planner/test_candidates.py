"""Candidate plans: distinct, seeded, and of every kind that a planner may need."""

from __future__ import annotations

import numpy as np

from opera_agents.planner.candidates import candidate_plans, refine_plans
from opera_env.tools import Toolbox


def test_candidates_are_distinct_and_begin_with_the_empty_plan() -> None:
    toolbox = Toolbox.load("lite")
    plans = candidate_plans(toolbox, frozenset({"rain", "noise"}), np.random.default_rng(0), 100, 6)
    assert len(plans) == len(set(plans)) == 100
    assert plans[0] == ()
    assert max(map(len, plans)) <= 6


def test_equal_generators_draw_equal_candidates() -> None:
    toolbox = Toolbox.load("lite")
    first, again, other = (
        candidate_plans(toolbox, frozenset({"haze"}), np.random.default_rng(seed), 30, 6)
        for seed in (1, 1, 2)
    )
    assert first == again != other


def test_candidates_repeat_tools_and_leave_the_matched_ones() -> None:
    toolbox = Toolbox.load("lite")
    degradations = frozenset({"rain", "jpeg"})
    plans = candidate_plans(toolbox, degradations, np.random.default_rng(0), 100, 6)
    matched = {tool.name for tool in toolbox if tool.degradations & degradations}
    assert any(set(plan) <= matched and len(plan) == 2 for plan in plans)
    assert any(len(set(plan)) < len(plan) for plan in plans)
    assert any(not set(plan) <= matched for plan in plans)
    assert any(plan and not set(plan) & matched for plan in plans)


def test_refined_plans_are_close_to_good_ones_and_new() -> None:
    names = Toolbox.load("lite").names
    best = [names[:3], names[5:6]]
    plans = refine_plans(best, [*best, ()], names, np.random.default_rng(0), 40, 4)
    assert len(plans) == len(set(plans)) == 40
    assert not set(plans) & {*best, ()}
    assert max(map(len, plans)) <= 4
    assert all(any(len(set(plan) - set(good)) <= 3 for good in best) for plan in plans)
    assert plans == refine_plans(best, [*best, ()], names, np.random.default_rng(0), 40, 4)
    only = refine_plans([("a",)], [("a",)], ("a",), np.random.default_rng(0), 9, 2)
    assert set(only) == {(), ("a", "a")}, "a single tool has no other plans of up to two"


def test_clean_samples_have_candidates_too() -> None:
    plans = candidate_plans(Toolbox.load("lite"), frozenset(), np.random.default_rng(0), 20, 6)
    assert len(plans) == 20
    assert plans[0] == ()


def test_a_small_toolbox_has_fewer_candidates() -> None:
    toolbox = Toolbox.load("lite").subset(["unet.denoise"])
    plans = candidate_plans(toolbox, frozenset({"noise"}), np.random.default_rng(0), 50, 2)
    assert set(plans) == {(), ("unet.denoise",), ("unet.denoise", "unet.denoise")}
