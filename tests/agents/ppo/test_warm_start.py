"""The warm start of the stepwise policy: it learns the next tool of plans, whoever chooses them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.random import Generator

from opera_agents.common.plausible_plans import plausible_plan
from opera_agents.planner.plan_value import PlanValue
from opera_agents.planner.saved import PolicyCard, save_policy, save_weights
from opera_agents.ppo.agent import PredictAgent
from opera_agents.ppo.config import PPOConfig
from opera_agents.ppo.train import make_model, make_vec_env, train
from opera_agents.ppo.warm_start import draw_plausible_plans, run_warm_start
from opera_env.agents import run_agent
from opera_env.data import Source
from opera_env.degradations import DEGRADATIONS
from opera_env.errors import MissingWeightsError, RunError, SettingError
from opera_env.execution import Executor
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import Plan, Sample


@pytest.mark.parametrize("first", ["unet.denoise", "brighten.gamma_correction"])
def test_the_policy_learns_the_plans_that_it_is_shown(
    first: str, tiny_config: PPOConfig, source: Source, samples: list[Sample]
) -> None:
    toolbox = Toolbox.load(tiny_config.toolbox)
    model = make_model(tiny_config, make_vec_env(tiny_config, toolbox, source))
    agent = PredictAgent(model.policy, toolbox, mask_upscale=False)

    def draw_plans(samples: Sequence[Sample], rng: Generator) -> list[Plan]:
        return [(first, "brighten.constant_shift")] * len(samples)

    executor = Executor(toolbox)
    budget = run_warm_start(model, agent, executor, source, draw_plans, steps=25, batch_size=4, seed=0)
    assert budget.images_scored == 0 and budget.tools_run > 25
    plans = run_agent(agent, samples, PlanScorer(toolbox, "classic"), 2).plans
    assert {plan[0] for plan in plans} == {first}


def test_plausible_plans_are_drawn_one_after_the_other(toolbox: Toolbox, samples: list[Sample]) -> None:
    rng = np.random.default_rng(3)
    expected = [plausible_plan(toolbox, sample.degradations or frozenset(), rng, 4) for sample in samples]
    assert draw_plausible_plans(toolbox, DEGRADATIONS, 4)(samples, np.random.default_rng(3)) == expected


@pytest.fixture
def planner(tiny_config: PPOConfig, tmp_path: Path) -> Path:
    """The folder of a planner's run with a value network."""
    toolbox, folder = Toolbox.load(tiny_config.toolbox), tmp_path / "planner"
    torch.manual_seed(0)
    card = PolicyCard(toolbox.signature, toolbox.names, max_tools=2)
    save_policy(card.build(), card, folder)
    save_weights(card.build(), folder / "imitation.safetensors")
    save_weights(PlanValue(256, len(toolbox)), folder / "value.safetensors")
    return folder


def test_a_run_imitates_the_plans_of_a_planner(tiny_config: PPOConfig, planner: Path) -> None:
    config = replace(tiny_config, planner=planner, total_timesteps=24, val=None)
    train(config)
    settings = json.loads((config.out / "config.json").read_text())
    assert settings["planner"]["name"].endswith("/planner") and settings["planner"]["content"]
    train(config)
    plain = replace(config, planner=None, out=config.out.with_name("plain"))
    train(plain)
    weights = [run.out / "agent.safetensors" for run in (config, plain)]
    assert weights[0].read_bytes() != weights[1].read_bytes()
    save_weights(PlanValue(256, 3), planner / "value.safetensors")
    with pytest.raises(RunError, match=r"planner .*/planner \(content"):
        train(config)


def test_a_folder_without_a_value_network_is_refused_before_anything_is_written(
    tiny_config: PPOConfig, planner: Path
) -> None:
    (planner / "value.safetensors").unlink()
    with pytest.raises(MissingWeightsError, match=r"value\.safetensors"):
        train(replace(tiny_config, planner=planner))
    assert not tiny_config.out.exists()
    with pytest.raises(SettingError, match=r"--planner .*: expected a warm start"):
        replace(tiny_config, planner=planner, warm_start_steps=0)
    with pytest.raises(SettingError, match=r"--planner .*: expected a warm start"):
        replace(tiny_config, planner=planner, initial_weights=Path("a"))
