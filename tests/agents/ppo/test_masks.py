"""A masked policy plays under the same masks in the environment and outside of it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from sb3_contrib import MaskablePPO

from opera_agents.ppo.agent import PredictAgent, make_ppo
from opera_agents.ppo.features import policy_kwargs
from opera_agents.ppo.saved import AgentCard, save_agent
from opera_agents.ppo.vec_env import OperaVecEnv
from opera_env.agents import run_agent
from opera_env.envs.stepwise import StepwiseConfig
from opera_env.evaluation.compare import EvaluationConfig, compare_agents
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import Plan, Sample

MakeEnvs = Callable[..., OperaVecEnv]
STEPWISE = "OPERA-RestoreStepwise-v0"


def spread_actions(policy: Any) -> None:
    """Makes the policy depend on the image, with a liking for the tool that upscales."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        policy.action_net.weight.copy_(torch.randn(policy.action_net.weight.shape, generator=generator))
        policy.action_net.bias[4] += 2.0


@pytest.fixture(params=[False, True], ids=["all actions", "mask_upscale"])
def mask_upscale(request: pytest.FixtureRequest) -> bool:
    return request.param


@pytest.fixture
def model(make_envs: MakeEnvs, toolbox: Toolbox, mask_upscale: bool) -> MaskablePPO:
    envs = make_envs("stepwise", toolbox=toolbox, max_tools=4, mask_upscale=mask_upscale)
    model = MaskablePPO(
        "MultiInputPolicy",
        envs,
        n_steps=2,
        device="cpu",
        gamma=1.0,
        seed=0,
        policy_kwargs=policy_kwargs(True),
    )
    spread_actions(model.policy)
    return model


@pytest.fixture
def mixed_samples(source: Any) -> Iterator[list[Sample]]:
    """Eight samples, of which every fourth has a quarter of the size of its canvas."""
    specs = source.list_specs(8, source.recipes, np.random.default_rng(5))
    samples = [source.make(spec) for spec in specs]
    assert {sample.size for sample in samples} == {(16, 16), (64, 64)}
    yield samples


def play(env: gym.Env[Any, Any], model: Any, sample: Sample, **predict: Any) -> Plan:
    """Plays an episode as sb3-contrib's documentation shows it."""
    observation, info = env.reset(options={"sample": sample.spec})
    terminated = False
    while not terminated:
        action, _ = model.predict(
            observation, action_masks=env.get_wrapper_attr("action_masks")(), **predict
        )
        observation, _, terminated, _, info = env.step(int(action))
    return info["plan"]


@pytest.fixture
def env(make_env: Callable[..., Any], toolbox: Toolbox, source: Any, mask_upscale: bool) -> Any:
    return make_env(
        STEPWISE, toolbox=toolbox, source=source, max_tools=4, obs_size=48, mask_upscale=mask_upscale
    )


def test_equal_plans_in_the_environment_and_in_run_agent(
    env: Any, model: MaskablePPO, toolbox: Toolbox, mixed_samples: list[Sample], mask_upscale: bool
) -> None:
    agent = PredictAgent(model, toolbox, mask_upscale=mask_upscale)
    inside = [play(env, model, sample, deterministic=True) for sample in mixed_samples]
    outside = run_agent(agent, mixed_samples, PlanScorer(toolbox, "classic"), max_tools=4).plans
    assert inside == outside
    for sample, plan in zip(mixed_samples, inside, strict=True):
        allowed = 4 if not mask_upscale else int(sample.size != sample.canvas)
        assert plan.count("tiny.enlarge") <= allowed
    counts = [plan.count("tiny.enlarge") for plan in inside]
    assert max(counts) == (1 if mask_upscale else max(counts)) > 0  # the mask matters here
    assert len(set(inside)) > 1


def test_the_defaults_agree() -> None:
    default = inspect.signature(PredictAgent).parameters["mask_upscale"].default
    assert default is StepwiseConfig().mask_upscale is True


def test_equal_sampled_plans(
    env: Any, model: MaskablePPO, toolbox: Toolbox, mixed_samples: list[Sample], mask_upscale: bool
) -> None:
    agent = PredictAgent(model, toolbox, mask_upscale=mask_upscale, deterministic=False)
    for seed, sample in enumerate(mixed_samples):
        torch.manual_seed(seed)
        inside = play(env, model, sample, deterministic=False)
        torch.manual_seed(seed)
        outside = run_agent(agent, [sample], PlanScorer(toolbox, "classic"), max_tools=4).plans
        assert outside == [inside]


def test_compare_plays_a_saved_policy_under_the_masks_of_its_training(
    env: Any,
    model: MaskablePPO,
    toolbox: Toolbox,
    mixed_samples: list[Sample],
    mask_upscale: bool,
    tmp_path: Any,
) -> None:
    card = AgentCard(
        toolbox.signature, toolbox.names, 4, 48, observe_original=True, mask_upscale=mask_upscale
    )
    save_agent(model.policy, card, tmp_path)
    agent = make_ppo(toolbox, tmp_path)
    config = EvaluationConfig(reward="classic", max_tools=4, regret=False)
    comparison = compare_agents({"ppo": agent}, mixed_samples, toolbox, config)
    plans = [record.plan for record in comparison.records]
    assert plans == [play(env, agent.model, sample, deterministic=True) for sample in mixed_samples]
