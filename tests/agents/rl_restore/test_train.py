"""Q-learning: what a run writes, exact resume, the agent that it makes, and refused settings."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from gymnasium import spaces
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from opera_agents.ppo.saved import CARD, WEIGHTS, AgentCard
from opera_agents.rl_restore import checkpoint
from opera_agents.rl_restore.agent import build_policy, make_rl_restore
from opera_agents.rl_restore.config import RLRestoreConfig
from opera_agents.rl_restore.features import RecurrentFeaturesExtractor
from opera_agents.rl_restore.train import train
from opera_env.agents import run_agent
from opera_env.errors import MissingWeightsError, RunError, SettingError, ToolboxMismatchError
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import Sample


def read_checkpoint(folder: Path) -> dict[str, Any]:
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    del state["progress"]["budget"]["seconds"]  # depends on the machine
    return state


def assert_equal(left: Any, right: Any, where: str = "") -> None:
    if isinstance(left, dict):
        assert left.keys() == right.keys(), where
        for key in left:
            assert_equal(left[key], right[key], f"{where}.{key}")
    elif isinstance(left, torch.Tensor):
        assert torch.equal(left, right), where
    elif isinstance(left, list):
        for index, (a, b) in enumerate(zip(left, right, strict=True)):
            assert_equal(a, b, f"{where}[{index}]")
    else:
        assert left == right, where


def test_a_run_trains_logs_and_exports(tiny_config: RLRestoreConfig, samples: list[Sample]) -> None:
    result = train(tiny_config)
    assert result is not None and result.reward_sampled is None
    events = EventAccumulator(str(tiny_config.out)).Reload()
    steps = {tag: [event.step for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    for tag in ("reward/total", "rollout/exploration_rate", "budget/tools_run", "train/loss"):
        assert steps[tag] == [16, 32, 48, 64], tag
    assert steps["val/reward"] == [0, 32, 64]
    rates = [event.value for event in events.Scalars("rollout/exploration_rate")]
    assert rates[0] > rates[1] and rates[-1] == pytest.approx(0.05)

    toolbox = Toolbox.load(tiny_config.toolbox)
    card = json.loads((tiny_config.out / CARD).read_text())
    assert card["tools"] == list(toolbox.names)
    assert card["training"]["val_reward"] == pytest.approx(result.reward)
    agent = make_rl_restore(toolbox, tiny_config.out)
    assert agent.closed_loop
    run_agent(agent, samples, PlanScorer(toolbox, "classic"), 2)
    with pytest.raises(ToolboxMismatchError):
        make_rl_restore(toolbox.subset(["unet.denoise"]), tiny_config.out)


@pytest.mark.slow
def test_resumed_run_equals_uninterrupted_run(
    tiny_config: RLRestoreConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is stopped between two checkpoints, when the replay buffer is full."""
    whole = replace(tiny_config, out=tiny_config.out / "whole")
    part = replace(tiny_config, out=tiny_config.out / "part")
    train(whole)
    original, saved = checkpoint.save, 0

    def stop_after_three(*args: Any) -> None:
        nonlocal saved
        if saved == 3:
            raise KeyboardInterrupt
        saved += 1
        original(*args)

    monkeypatch.setattr(checkpoint, "save", stop_after_three)
    with pytest.raises(KeyboardInterrupt):
        train(part)
    monkeypatch.setattr(checkpoint, "save", original)
    assert read_checkpoint(part.out)["replay"]["full"]
    train(part)
    assert_equal(read_checkpoint(whole.out), read_checkpoint(part.out))
    assert (whole.out / WEIGHTS).read_bytes() == (part.out / WEIGHTS).read_bytes()


def test_a_checkpoint_of_another_model_is_an_error(tiny_config: RLRestoreConfig) -> None:
    config = replace(tiny_config, total_timesteps=16, val=None)
    train(config)
    path = config.out / "checkpoint.pt"
    state = torch.load(path, weights_only=True)
    del state["replay"]["pos"]
    torch.save(state, path)
    with pytest.raises(RunError, match="not a checkpoint of this run"):
        train(config)


def test_the_state_depends_on_the_order_of_the_tools() -> None:
    card = AgentCard(signature="s", tools=("a", "b"), max_tools=3, obs_size=16)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        extractor = RecurrentFeaturesExtractor(card.observation_space)
    image = torch.zeros(5, 3, 16, 16)

    def encode(*plans: tuple[int, ...]) -> torch.Tensor:
        padded = torch.tensor([[*plan, *[0] * (3 - len(plan))] for plan in plans])
        used = torch.nn.functional.one_hot(padded, 3).float().flatten(1)
        steps = torch.nn.functional.one_hot(torch.tensor([3 - len(plan) for plan in plans]), 4).float()
        return extractor({"image": image[: len(plans)], "used": used, "steps_left": steps})

    features = encode((), (1,), (1, 2), (2, 1), (1, 2, 2))
    assert features.shape == (5, extractor.features_dim)
    states = features[:, extractor.encoder.features_dim : -4]
    assert not states[0].any() and len(states.unique(dim=0)) == 5
    torch.testing.assert_close(encode((1, 2)), features[2:3])


def test_a_policy_has_an_action_for_stop() -> None:
    card = AgentCard(signature="s", tools=("a", "b"), max_tools=3, obs_size=16)
    with torch.random.fork_rng():
        action_space = build_policy(card).action_space
    assert isinstance(action_space, spaces.Discrete) and action_space.n == 3


@pytest.mark.parametrize(
    ("settings", "expected"),
    [({"freeze_encoder": True}, "trained weights"), ({"buffer_size": 3}, "at least 4")],
)
def test_settings_that_cannot_be_used_are_errors(
    tiny_config: RLRestoreConfig, settings: dict[str, Any], expected: str
) -> None:
    with pytest.raises(SettingError, match=expected):
        replace(tiny_config, **settings)


def test_without_a_policy_the_error_names_the_command(toolbox: Toolbox) -> None:
    with pytest.raises(MissingWeightsError, match=r"python -m opera_agents\.rl_restore\.train"):
        make_rl_restore(toolbox)
