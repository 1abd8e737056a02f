"""The shipped stepwise policy, on photographs that it was not trained on."""

from __future__ import annotations

import numpy as np
import pytest

from opera_agents.ppo.agent import SHIPPED, make_ppo
from opera_agents.ppo.saved import WEIGHTS, load_agent
from opera_env.agents import make_agent, run_agent
from opera_env.data import bundled
from opera_env.degradations import benchmark_recipes
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import Plan, Sample

MIN_GAIN = 1.0
"""Minimum gain of mean R_q over untouched and random plans; measured gains are 1.7 and more."""


@pytest.fixture(scope="module")
def lite() -> Toolbox:
    return Toolbox.load("lite")


@pytest.fixture(scope="module")
def bundled_samples() -> list[Sample]:
    source = bundled(128)
    return [
        source.make(spec) for spec in source.list_specs(16, benchmark_recipes(), np.random.default_rng(6))
    ]


def plans_of(name: str, samples: list[Sample], scorer: PlanScorer, max_tools: int = 6) -> list[Plan]:
    return run_agent(make_agent(name, toolbox=scorer.toolbox), samples, scorer, max_tools).plans


def test_shipped_policy_is_small_and_for_the_toolbox_lite(lite: Toolbox) -> None:
    assert (SHIPPED / WEIGHTS).stat().st_size < 8e6
    _, card = load_agent(SHIPPED)
    assert (card.signature, card.tools) == (lite.signature, lite.names)
    assert card.training["images"]["name"] == "bsds500/train data/photos"
    assert card.reward == "lite"


def test_plans_keep_to_max_tools_of_run_and_card(lite: Toolbox, bundled_samples: list[Sample]) -> None:
    scorer = PlanScorer(lite, "classic")
    assert max(map(len, plans_of("ppo", bundled_samples[:4], scorer, max_tools=1))) == 1
    _, card = load_agent(SHIPPED)
    assert make_ppo(lite).max_tools == card.max_tools
    plans = plans_of("ppo", bundled_samples[:4], scorer, max_tools=9)
    assert max(map(len, plans)) <= card.max_tools


@pytest.mark.slow
@pytest.mark.needs_weights("lpips")
def test_shipped_policy_has_a_higher_reward_than_untouched_and_random_plans(
    lite: Toolbox, bundled_samples: list[Sample]
) -> None:
    scorer = PlanScorer(lite, "lite")
    rewards = {
        name: np.mean(
            [
                outcome.r_q
                for outcome in scorer.score(bundled_samples, plans_of(name, bundled_samples, scorer))
            ]
        )
        for name in ("untouched", "random", "ppo")
    }
    assert rewards["ppo"] > max(rewards["untouched"], rewards["random"]) + MIN_GAIN, rewards
