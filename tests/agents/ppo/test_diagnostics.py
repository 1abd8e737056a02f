"""Means over the episodes of a rollout: gain, reward and its parts."""

from __future__ import annotations

import pytest

from opera_agents.ppo.diagnostics import episode_scalars


def test_gain_and_reward_are_told_apart() -> None:
    episodes = [
        {"r": 1.5, "l": 3, "r_q": 6.0, "tools": 2, "terms": {"psnr_y": 4.0, "piqe": 2.0}},
        {"r": -0.25, "l": 1, "r_q": 4.0, "tools": 0, "terms": {"psnr_y": 3.5, "piqe": 0.5}},
    ]
    assert episode_scalars(episodes, tool_cost=0.5) == pytest.approx(
        {
            "rollout/return": 0.625,
            "rollout/length": 2.0,
            "rollout/plan_length": 1.0,
            "reward/total": 4.5,
            "reward/r_q": 5.0,
            "reward/tool_cost": 0.5,
            "reward/psnr_y": 3.75,
            "reward/piqe": 1.25,
        }
    )


def test_a_rollout_in_which_no_episode_ended_has_no_means() -> None:
    assert episode_scalars([], tool_cost=0.5) == {}
