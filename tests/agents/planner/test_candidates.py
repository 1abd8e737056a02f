"""Candidate plans: distinct, seeded, and of every kind that a planner may need."""

from __future__ import annotations

import numpy as np

from opera_agents.planner.candidates import candidate_plans
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


def test_clean_samples_have_candidates_too() -> None:
    plans = candidate_plans(Toolbox.load("lite"), frozenset(), np.random.default_rng(0), 20, 6)
    assert len(plans) == 20
    assert plans[0] == ()


def test_a_small_toolbox_has_fewer_candidates() -> None:
    toolbox = Toolbox.load("lite").subset(["unet.denoise"])
    plans = candidate_plans(toolbox, frozenset({"noise"}), np.random.default_rng(0), 50, 2)
    assert set(plans) == {(), ("unet.denoise",), ("unet.denoise", "unet.denoise")}
