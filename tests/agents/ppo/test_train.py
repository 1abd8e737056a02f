"""PPO training: what it writes, exact resume, refused settings."""

from __future__ import annotations

import json
import math
import os
import shutil
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
from opera_env.errors import (
    AgentError,
    MissingWeightsError,
    RunError,
    SampleError,
    SettingError,
    ToolboxMismatchError,
    UnknownPresetError,
)
from opera_env.runs import claim_run_dir
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import Sample
from opera_env.weights import load_tensors
from opera_env.weights.checkpoints import save_checkpoint


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
    cards = [json.loads((folder / CARD).read_text()) for folder in (left, right)]
    for card in cards:
        del card["training"]["seconds"]
    assert cards[0] == cards[1]


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
        str(tiny_config.images[0])
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


@pytest.mark.slow
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


@pytest.mark.slow
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
    images = options.pop("images")
    arguments = ["--images", *map(str, images)] + [
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


@pytest.mark.slow
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


@pytest.mark.slow
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


def test_training_starts_from_a_trained_policy(tiny_config: PPOConfig) -> None:
    first = replace(tiny_config, out=tiny_config.out / "first", total_timesteps=24, val=None)
    train(first)
    second = replace(first, out=tiny_config.out / "second", initial_weights=first.out, lr=0.0, seed=1)
    train(second)
    assert (first.out / WEIGHTS).read_bytes() == (second.out / WEIGHTS).read_bytes()
    assert "warm start" not in json.loads((second.out / CARD).read_text())["training"]
    train(replace(second, out=tiny_config.out / "third", freeze_encoder=True, lr=1e-2))
    before, after = (load_tensors(run / WEIGHTS) for run in (first.out, tiny_config.out / "third"))
    changed = {key for key, value in before.items() if not torch.equal(value, after[key])}
    assert changed and not any("encoder" in key for key in changed)


def test_other_initial_weights_are_refused_before_anything_is_written(tiny_config: PPOConfig) -> None:
    first = replace(tiny_config, out=tiny_config.out.with_name("first"), total_timesteps=24, val=None)
    train(first)
    config = replace(tiny_config, initial_weights=first.out)
    subset = tiny_config.out.with_name("subset")
    Toolbox.load(config.toolbox).subset(["unet.denoise"]).save(subset)
    for refused, error, message in (
        (replace(config, initial_weights=first.out.with_name("frist")), MissingWeightsError, "frist"),
        (replace(config, toolbox=str(subset)), ToolboxMismatchError, "--initial-weights was trained for"),
        (replace(config, max_tools=3), AgentError, "trained with --max-tools 2"),
        (replace(config, observe_original=True), AgentError, "without --observe-original"),
        (replace(config, images=(first.out,)), SampleError, "first"),
        (replace(config, reward="lita"), UnknownPresetError, "'lita'"),
        (replace(config, val=first.out), SampleError, "first"),
    ):
        with pytest.raises(error, match=message):
            train(refused)
        assert not config.out.exists(), message


def test_settings_without_sense_are_refused(tiny_config: PPOConfig) -> None:
    with pytest.raises(SettingError, match=r"--freeze-encoder True: .*--encoder FILE"):
        replace(tiny_config, freeze_encoder=True)
    with pytest.raises(SettingError, match="no other encoder"):
        replace(tiny_config, encoder=Path("a"), initial_weights=Path("b"))
    for name, value in (
        ("lr", math.nan),
        ("ent_coef", -1),
        ("gae_lambda", 1.5),
        ("batch_size", 1),
        ("seed", -1),
    ):
        with pytest.raises(SettingError, match=name.replace("_", "-")):
            replace(tiny_config, **{name: value})


def test_a_run_is_resumed_with_more_steps(
    tiny_config: PPOConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    config = replace(tiny_config, val=None)
    train(replace(config, total_timesteps=48))
    train(config)
    assert read_checkpoint(config.out)["num_timesteps"] == 96
    assert "after 48 of 96" in capsys.readouterr().out
    assert json.loads((config.out / "config.json").read_text())["previous"] == [{"total_timesteps": 48}]
    with pytest.raises(RunError, match="96"):
        train(replace(config, total_timesteps=48))


def test_inputs_are_known_by_content(tiny_config: PPOConfig, photos: Path, tmp_path: Path) -> None:
    """Folders of other content are refused although their names are the same."""
    config = replace(tiny_config, val=None, total_timesteps=24)
    train(config)
    toolbox = Toolbox.load(config.toolbox)
    for parameter in toolbox["unet.denoise"].parameters:
        parameter.data.mul_(0.5)
    other = tmp_path / "other"
    toolbox.save(other / "toolbox")
    with pytest.raises(RunError, match=r"toolbox .*toolbox.*content"):
        train(replace(config, toolbox=str(other / "toolbox")))
    images = Path(shutil.copytree(photos, other / photos.parent.name / photos.name))
    train(replace(config, images=(images,)))
    (images / "0.png").unlink()
    with pytest.raises(RunError, match=f"images .*{images.name}.*content"):
        train(replace(config, images=(images,)))


def test_checkpoints_of_something_else_raise(tiny_config: PPOConfig) -> None:
    config = replace(tiny_config, val=None, total_timesteps=24)
    train(config)
    path, state = config.out / "checkpoint.pt", read_checkpoint(config.out)
    state["policy"]["action_net.bias"] = torch.zeros(7)
    for other in ({"progress": 3}, {"update": 3}, state):
        save_checkpoint(path, other)
        with pytest.raises(RunError, match=rf"{path}: not a checkpoint of this run.*delete it") as caught:
            train(config)
        assert "\n" not in str(caught.value)


def test_two_trainers_in_one_folder_are_refused(tiny_config: PPOConfig) -> None:
    with claim_run_dir(tiny_config.out, {}), pytest.raises(RunError, match="another process is training"):
        train(tiny_config)


def test_files_can_be_read_by_others(tiny_config: PPOConfig) -> None:
    train(replace(tiny_config, val=None, total_timesteps=24))
    umask = os.umask(0)
    os.umask(umask)
    for name in (WEIGHTS, CARD, "config.json", "checkpoint.pt"):
        assert (tiny_config.out / name).stat().st_mode & 0o777 == 0o666 & ~umask, name


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
        train(replace(tiny_config, images=(tmp_path / "empty",)))


def test_training_with_own_degradations(tiny_config: PPOConfig) -> None:
    custom_degradations = "tests.degradations.own:OWN_DEGRADATIONS"
    assert train(replace(tiny_config, degradations=custom_degradations, total_timesteps=24)) is not None
    assert (
        json.loads((tiny_config.out / CARD).read_text())["training"]["degradations"] == custom_degradations
    )
    with pytest.raises(SampleError, match="'no_such_module:OWN' cannot be imported"):
        train(replace(tiny_config, out=tiny_config.out / "other", degradations="no_such_module:OWN"))


def test_training_on_real_damage(tiny_config: PPOConfig, photos: Path) -> None:
    real = Path(f"real:{photos}")
    config = replace(tiny_config, images=(real,), val=real, total_timesteps=24)
    assert train(config) is not None
    with pytest.raises(SampleError, match="expected --val real:FOLDER"):
        train(replace(config, val=photos, out=config.out / "other"))
