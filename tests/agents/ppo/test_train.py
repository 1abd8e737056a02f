"""Training runs, can be stopped at any time, and goes on as if it had not been."""

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

from opera_agents.ppo import train as training
from opera_agents.ppo.agent import make_ppo
from opera_agents.ppo.config import PPOConfig
from opera_agents.ppo.saved import CARD, WEIGHTS
from opera_agents.ppo.train import train
from opera_env.agents import run_agent
from opera_env.encoder import Detector
from opera_env.errors import AgentError, SampleError, ToolboxMismatchError
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import Sample
from opera_env.weights import load_tensors


def checkpoint(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "checkpoint.pt", weights_only=True)


def assert_equal_runs(left: Path, right: Path) -> None:
    one, other = checkpoint(left), checkpoint(right)
    for state in (one, other):
        del state["progress"]["budget"]["seconds"]  # is the machine's
    assert one["progress"] == other["progress"]
    assert one["num_timesteps"] == other["num_timesteps"]
    for key, value in one["policy"].items():
        assert torch.equal(value, other["policy"][key]), key
    for index, moments in one["optimizer"]["state"].items():
        for key, value in moments.items():
            assert torch.equal(value, other["optimizer"]["state"][index][key])
    assert (left / WEIGHTS).read_bytes() == (right / WEIGHTS).read_bytes()


def test_it_trains_logs_and_exports(tiny: PPOConfig, samples: list[Sample]) -> None:
    watched = train(tiny)
    assert watched is not None
    assert {path.name for path in tiny.out.iterdir()} >= {"config.json", "checkpoint.pt", WEIGHTS, CARD}

    events = EventAccumulator(str(tiny.out)).Reload()
    steps = {tag: [event.step for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    for tag in (
        "rollout/return",
        "rollout/length",
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
    assert steps["val/reward"] == steps["val/length"] == [0, 48, 96]
    assert "rollout/actions" in events.Tags()["histograms"]
    assert events.Scalars("val/reward")[-1].value == pytest.approx(watched.reward, abs=1e-5)
    scored = [event.value for event in events.Scalars("budget/images_scored")]
    assert scored == sorted(scored)
    assert 0 < events.Scalars("budget/tools_run")[-1].value <= 96

    toolbox = Toolbox.load(tiny.toolbox)
    card = json.loads((tiny.out / CARD).read_text())
    assert card["tools"] == list(toolbox.names)
    assert card["training"]["images_scored"] == scored[-1]
    assert card["training"]["val_reward"] == pytest.approx(watched.reward)
    assert str(tiny.images) not in (tiny.out / CARD).read_text() + (tiny.out / "config.json").read_text()
    agent = make_ppo(toolbox, tiny.out)
    run_agent(agent, samples, PlanScorer(toolbox, "classic"), tiny.max_tools)
    with pytest.raises(ToolboxMismatchError):
        make_ppo(toolbox.subset(["unet.denoise"]), tiny.out)


@pytest.mark.slow
def test_it_learns(tiny: PPOConfig) -> None:
    """With tools of which one mends every image, it finds that one."""
    watched = train(
        replace(tiny, steps=1200, n_steps=10, lr=3e-3, epochs=4, save_every=10, val_every=10, val_count=6)
    )
    assert watched is not None
    events = EventAccumulator(str(tiny.out)).Reload()
    returns = [event.value for event in events.Scalars("rollout/return")]
    assert np.mean(returns[-8:]) > np.mean(returns[:8])


@pytest.mark.parametrize("freeze", [False, True])
def test_a_run_that_goes_on_is_the_run_that_never_stopped(
    freeze: bool, tiny: PPOConfig, detector: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = replace(tiny, encoder=detector, freeze=freeze)
    whole = replace(tiny, out=tiny.out / "whole")
    train(whole)

    class StoppedError(Exception):
        pass

    def stop_after_two(*args: Any) -> None:
        save(*args)
        if args[2].rollouts == 2:
            raise StoppedError

    save = training.save
    parts = replace(tiny, out=tiny.out / "parts")
    with monkeypatch.context() as patch:
        patch.setattr(training, "save", stop_after_two)
        with pytest.raises(StoppedError):
            train(parts)
    assert checkpoint(parts.out)["progress"]["rollouts"] == 2
    assert not (parts.out / WEIGHTS).exists()
    train(parts)
    assert_equal_runs(whole.out, parts.out)
    seen = EventAccumulator(str(parts.out)).Reload()
    assert [event.step for event in seen.Scalars("budget/tools_run")] == [24, 48, 72, 96]


def test_a_finished_run_stays_as_it_is(tiny: PPOConfig) -> None:
    def files() -> dict[str, bytes]:
        paths = (path for path in tiny.out.rglob("*") if path.is_file())
        return {path.name: path.read_bytes() for path in paths if not path.name.startswith("events")}

    train(tiny)
    before = files()
    assert train(tiny) is not None
    assert before == files()


def rollouts_of(folder: Path) -> int:
    """How many rollouts a run has kept; none before its first checkpoint, which ends the warm start."""
    return checkpoint(folder)["progress"]["rollouts"] if (folder / "checkpoint.pt").exists() else 0


@pytest.mark.slow
def test_a_killed_run_goes_on(tiny: PPOConfig, child_environment: dict[str, str]) -> None:
    """Killed in the middle of whatever it does after the first checkpoint."""
    tiny = replace(tiny, val=None)
    whole, killed = replace(tiny, out=tiny.out / "whole"), replace(tiny, out=tiny.out / "killed")
    options = {
        key: value for key, value in asdict(killed).items() if value is not None and value is not False
    }
    arguments = [f"--{key.replace('_', '-')}={value}" for key, value in options.items()]
    command = [sys.executable, "-m", "opera_agents.ppo.train", *arguments]
    process = subprocess.Popen(command, env=child_environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while rollouts_of(killed.out) < 1 and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert 1 <= checkpoint(killed.out)["progress"]["rollouts"] < 4
    train(killed)
    train(whole)
    assert_equal_runs(whole.out, killed.out)


def test_other_settings_are_refused(tiny: PPOConfig) -> None:
    train(replace(tiny, val=None))
    with pytest.raises(AgentError, match=r"seed 0, now 1.*--out"):
        train(replace(tiny, seed=1))
    train(replace(tiny, threads=2, val_every=1))


def test_another_toolbox_is_refused(tiny: PPOConfig) -> None:
    train(replace(tiny, val=None))
    Toolbox.load(tiny.toolbox).subset(["unet.denoise"]).save(Path(tiny.toolbox).parent / "other")
    with pytest.raises(AgentError, match="toolbox"):
        train(replace(tiny, toolbox=str(Path(tiny.toolbox).parent / "other")))


def test_equal_seeds_train_alike_and_others_do_not(tiny: PPOConfig) -> None:
    runs = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(replace(tiny, out=tiny.out / name, val=None, steps=24, seed=seed))
        runs.append((tiny.out / name / WEIGHTS).read_bytes())
    assert runs[0] == runs[1] != runs[2]


@pytest.fixture
def detector(tmp_path: Path) -> Path:
    path = tmp_path / "detector.safetensors"
    save_file(Detector(8).state_dict(), path)
    return path


@pytest.mark.parametrize("freeze", [False, True])
def test_it_starts_from_an_encoder(freeze: bool, tiny: PPOConfig, detector: Path) -> None:
    train(replace(tiny, encoder=detector, freeze=freeze, steps=48, lr=1e-2, val=None))
    weights = load_tensors(tiny.out / WEIGHTS)
    moved = {}
    for key, value in load_tensors(detector).items():
        if key.startswith("encoder."):
            moved[key] = (weights[f"features_extractor.{key}"].float() - value).abs().max().item()
    assert max(moved.values()) < (1e-3 if freeze else 1)
    assert freeze or min(moved.values()) > 2e-3


def test_an_untrained_encoder_is_not_frozen(tiny: PPOConfig) -> None:
    with pytest.raises(AgentError, match="--encoder"):
        train(replace(tiny, freeze=True))


def test_the_label_free_game_is_played(tiny: PPOConfig) -> None:
    watched = train(replace(tiny, reward="label_free", val_reward="classic", steps=24, mask_upscale=True))
    assert watched is not None
    assert json.loads((tiny.out / CARD).read_text())["reward"] == "label_free"


def test_a_folder_without_photographs_is_refused(tiny: PPOConfig, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SampleError):
        train(replace(tiny, images=tmp_path / "empty"))
