"""PPO training: what it writes, exact resume, refused settings."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from opera_agents.ppo import checkpoint
from opera_agents.ppo.agent import make_ppo
from opera_agents.ppo.config import PPOConfig
from opera_agents.ppo.saved import CARD, WEIGHTS
from opera_agents.ppo.train import train
from opera_env.agents import run_agent
from opera_env.encoder import Detector
from opera_env.errors import AgentError, RunError, SampleError, ToolboxMismatchError
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import Sample
from opera_env.weights import load_tensors


def read_checkpoint(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "checkpoint.pt", weights_only=True)


def assert_equal_runs(left: Path, right: Path) -> None:
    first_state, second_state = read_checkpoint(left), read_checkpoint(right)
    for state in (first_state, second_state):
        del state["progress"]["budget"]["seconds"]  # depends on the machine
    assert first_state["progress"] == second_state["progress"]
    assert first_state["num_timesteps"] == second_state["num_timesteps"]
    for key, value in first_state["policy"].items():
        assert torch.equal(value, second_state["policy"][key]), key
    for index, moments in first_state["optimizer"]["state"].items():
        for key, value in moments.items():
            assert torch.equal(value, second_state["optimizer"]["state"][index][key])
    assert (left / WEIGHTS).read_bytes() == (right / WEIGHTS).read_bytes()


def test_a_run_trains_logs_and_exports(tiny_config: PPOConfig, samples: list[Sample]) -> None:
    result = train(tiny_config)
    assert result is not None
    assert {path.name for path in tiny_config.out.iterdir()} >= {
        "config.json",
        "checkpoint.pt",
        WEIGHTS,
        CARD,
    }

    events = EventAccumulator(str(tiny_config.out)).Reload()
    steps = {tag: [event.step for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    for tag in (
        "rollout/return",
        "rollout/length",
        "rollout/plan_length",
        "reward/total",
        "reward/r_q",
        "reward/tool_cost",
        "reward/psnr_y",
        "train/entropy",
        "train/approx_kl",
        "train/clip_fraction",
        "train/value_loss",
        "train/explained_variance",
        "budget/images_scored",
        "budget/tools_run",
        "budget/seconds",
    ):
        assert steps[tag] == [24, 48, 72, 96], tag
    for name in ("reward", "length", "reward_sampled", "length_sampled"):
        assert steps[f"val/{name}"] == [0, 48, 96], name
    assert "rollout/actions" in events.Tags()["histograms"]
    assert events.Scalars("val/reward")[-1].value == pytest.approx(result.reward, abs=1e-5)
    scored = [event.value for event in events.Scalars("budget/images_scored")]
    assert scored == sorted(scored)
    assert 0 < events.Scalars("budget/tools_run")[-1].value <= 96

    toolbox = Toolbox.load(tiny_config.toolbox)
    card = json.loads((tiny_config.out / CARD).read_text())
    assert card["tools"] == list(toolbox.names)
    assert card["training"]["images_scored"] == scored[-1]
    assert card["training"]["val_reward"] == pytest.approx(result.reward)
    assert (
        str(tiny_config.images)
        not in (tiny_config.out / CARD).read_text() + (tiny_config.out / "config.json").read_text()
    )
    agent = make_ppo(toolbox, tiny_config.out)
    run_agent(agent, samples, PlanScorer(toolbox, "classic"), tiny_config.max_tools)
    with pytest.raises(ToolboxMismatchError):
        make_ppo(toolbox.subset(["unet.denoise"]), tiny_config.out)


@pytest.mark.slow
def test_the_return_rises(tiny_config: PPOConfig) -> None:
    """One of the tools improves every image, so the return rises."""
    result = train(
        replace(
            tiny_config,
            total_timesteps=1200,
            n_steps=10,
            lr=3e-3,
            n_epochs=4,
            save_every=10,
            val_every=10,
            val_count=6,
        )
    )
    assert result is not None
    events = EventAccumulator(str(tiny_config.out)).Reload()
    returns = [event.value for event in events.Scalars("rollout/return")]
    assert np.mean(returns[-8:]) > np.mean(returns[:8])


@pytest.mark.parametrize("freeze_encoder", [False, True])
def test_resumed_run_equals_uninterrupted_run(
    freeze_encoder: bool, tiny_config: PPOConfig, detector: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(tiny_config, encoder=detector, freeze_encoder=freeze_encoder)
    whole = replace(config, out=config.out / "whole")
    train(whole)

    class StoppedError(Exception):
        pass

    def stop_after_two(*args: Any) -> None:
        save(*args)
        if args[2].rollouts == 2:
            raise StoppedError

    save = checkpoint.save
    parts = replace(config, out=config.out / "parts")
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", stop_after_two)
        with pytest.raises(StoppedError):
            train(parts)
    assert read_checkpoint(parts.out)["progress"]["rollouts"] == 2
    assert not (parts.out / WEIGHTS).exists()
    train(parts)
    assert_equal_runs(whole.out, parts.out)
    events = EventAccumulator(str(parts.out)).Reload()
    assert [event.step for event in events.Scalars("budget/tools_run")] == [24, 48, 72, 96]


def test_a_finished_run_is_not_changed(tiny_config: PPOConfig) -> None:
    def files() -> dict[str, bytes]:
        paths = (path for path in tiny_config.out.rglob("*") if path.is_file())
        return {path.name: path.read_bytes() for path in paths if not path.name.startswith("events")}

    train(tiny_config)
    before = files()
    assert train(tiny_config) is not None
    assert before == files()


def saved_rollouts(folder: Path) -> int:
    """Returns the number of rollouts in the checkpoint, or 0 before the first checkpoint."""
    return read_checkpoint(folder)["progress"]["rollouts"] if (folder / "checkpoint.pt").exists() else 0


@pytest.mark.slow
def test_resumed_run_after_a_kill_equals_uninterrupted_run(
    tiny_config: PPOConfig, child_environment: dict[str, str]
) -> None:
    """The process is killed at any time after the first checkpoint."""
    config = replace(tiny_config, val=None)
    whole, killed = (
        replace(config, out=config.out / "whole"),
        replace(config, out=config.out / "killed"),
    )
    options = {key.replace("_", "-"): value for key, value in asdict(killed).items() if value is not None}
    arguments = [
        (f"--{key}" if value else f"--no-{key}") if isinstance(value, bool) else f"--{key}={value}"
        for key, value in options.items()
    ]
    command = [sys.executable, "-m", "opera_agents.ppo.train", *arguments]
    process = subprocess.Popen(command, env=child_environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while saved_rollouts(killed.out) < 1 and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert 1 <= read_checkpoint(killed.out)["progress"]["rollouts"] < 4
    train(killed)
    train(whole)
    assert_equal_runs(whole.out, killed.out)


def test_other_settings_raise(tiny_config: PPOConfig) -> None:
    train(replace(tiny_config, val=None))
    with pytest.raises(RunError, match=r"seed 0, now 1.*--out"):
        train(replace(tiny_config, seed=1))
    train(replace(tiny_config, threads=2, val_every=1))


def test_another_toolbox_raises(tiny_config: PPOConfig) -> None:
    train(replace(tiny_config, val=None))
    Toolbox.load(tiny_config.toolbox).subset(["unet.denoise"]).save(
        Path(tiny_config.toolbox).parent / "other"
    )
    with pytest.raises(RunError, match="toolbox"):
        train(replace(tiny_config, toolbox=str(Path(tiny_config.toolbox).parent / "other")))


def test_weights_are_a_function_of_the_seed(tiny_config: PPOConfig) -> None:
    runs = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(replace(tiny_config, out=tiny_config.out / name, val=None, total_timesteps=24, seed=seed))
        runs.append((tiny_config.out / name / WEIGHTS).read_bytes())
    assert runs[0] == runs[1] != runs[2]


@pytest.fixture
def detector(tmp_path: Path) -> Path:
    path = tmp_path / "detector.safetensors"
    save_file(Detector(8).state_dict(), path)
    return path


@pytest.mark.parametrize("freeze_encoder", [False, True])
def test_training_starts_from_encoder_weights(
    freeze_encoder: bool, tiny_config: PPOConfig, detector: Path
) -> None:
    train(
        replace(
            tiny_config,
            encoder=detector,
            freeze_encoder=freeze_encoder,
            total_timesteps=48,
            lr=1e-2,
            val=None,
        )
    )
    weights = load_tensors(tiny_config.out / WEIGHTS)
    change = {}
    for key, value in load_tensors(detector).items():
        if key.startswith("encoder."):
            change[key] = (weights[f"features_extractor.{key}"].float() - value).abs().max().item()
    assert max(change.values()) < (1e-3 if freeze_encoder else 1)
    assert freeze_encoder or min(change.values()) > 2e-3


def test_freezing_an_untrained_encoder_raises(tiny_config: PPOConfig) -> None:
    with pytest.raises(AgentError, match="--encoder"):
        train(replace(tiny_config, freeze_encoder=True))


def test_training_with_the_label_free_reward(tiny_config: PPOConfig) -> None:
    result = train(
        replace(
            tiny_config, reward="label_free", val_reward="classic", total_timesteps=24, mask_upscale=True
        )
    )
    assert result is not None
    assert json.loads((tiny_config.out / CARD).read_text())["reward"] == "label_free"


def test_a_folder_without_photographs_raises(tiny_config: PPOConfig, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SampleError):
        train(replace(tiny_config, images=tmp_path / "empty"))


def test_training_with_own_degradations(tiny_config: PPOConfig) -> None:
    custom_degradations = "tests.degradations.own:OWN_DEGRADATIONS"
    assert train(replace(tiny_config, degradations=custom_degradations, total_timesteps=24)) is not None
    assert (
        json.loads((tiny_config.out / CARD).read_text())["training"]["degradations"] == custom_degradations
    )
    with pytest.raises(SampleError, match="'no_such_module:OWN' cannot be imported"):
        train(replace(tiny_config, out=tiny_config.out / "other", degradations="no_such_module:OWN"))
