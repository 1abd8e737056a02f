"""The planner's trainer with small settings: it learns, logs, and resumes exactly."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from opera_agents.planner import train as trainer
from opera_agents.planner import warm_start
from opera_agents.planner.agent import Planner
from opera_agents.planner.config import PlannerConfig
from opera_agents.planner.rollout import RolloutBatch
from opera_agents.planner.saved import load_policy
from opera_agents.planner.train import train
from opera_env.degradations import DEGRADATIONS
from opera_env.degradations.real import REAL_LABELS
from opera_env.encoder import WindowedEncoder
from opera_env.errors import (
    AgentError,
    DeviceError,
    MissingWeightsError,
    RunError,
    SampleError,
    SettingError,
    ToolboxError,
    UnknownPresetError,
)
from opera_env.schedules import warmup_linear
from opera_env.tools import Toolbox
from opera_env.types import Observation

Configure = Callable[..., PlannerConfig]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "planner.safetensors")


def equal(a: Path, b: Path) -> bool:
    first_weights, second_weights = weights(a), weights(b)
    return first_weights.keys() == second_weights.keys() and all(
        torch.equal(first_weights[name], second_weights[name]) for name in first_weights
    )


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return {
        name: [(event.step, event.value) for event in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


def test_run_saves_a_policy_and_logs_every_update(configure: Configure) -> None:
    config = configure()
    result = train(config)
    assert 0 < result.reward < 10 and result.f1 is not None
    policy, card = load_policy(config.out)
    assert policy.max_tools == 3 and card.tools[0] == "unet.denoise"
    assert card.training["images_scored"] > 0 and card.training["updates"] == 4
    logged = scalars(config.out)
    for name in [
        "reward/r_q",
        "reward/r_d",
        "reward/total",
        "reward/psnr_y",
        "rollout/plan_length",
        "rollout/distinct_plans",
        "train/plan_entropy",
        "train/label_entropy",
        "train/approx_kl",
        "train/clip_fraction",
        "train/frac_reward_zero_std",
        "train/loss",
        "train/policy_loss",
        "train/entropy_loss",
        "train/label_loss",
        "train/grad_norm",
        "budget/images_scored",
        "budget/tools_run",
        "budget/seconds",
    ]:
        assert [step for step, _ in logged[name]] == [1, 2, 3, 4], name
    assert [step for step, _ in logged["val/reward"]] == [0, 2, 4]
    scored = [value for _, value in logged["budget/images_scored"]]
    assert scored == sorted(scored) and scored[0] >= 2
    events = EventAccumulator(str(config.out))
    events.Reload()
    assert "rollout/tools" in events.Tags()["histograms"] or config.updates < 10
    assert "val/input_restored_reference" in events.Tags()["images"]


def test_files_have_the_mode_of_new_files(configure: Configure) -> None:
    config = configure(warm_start_steps=1, updates=1)
    before = os.umask(0o027)
    try:
        train(config)
    finally:
        os.umask(before)
    files = {path.name: path.stat().st_mode & 0o777 for path in config.out.iterdir() if path.is_file()}
    assert {"planner.safetensors", "planner.json", "checkpoint.pt", "warm.safetensors"} <= files.keys()
    assert set(files.values()) == {0o640}


def test_a_damaged_result_of_the_warm_start_is_written_again(
    configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configure(warm_start_steps=1, updates=1, kl_coef=0.1)
    train(config)
    path, content = config.out / "warm.safetensors", (config.out / "warm.safetensors").read_bytes()
    damaged = bytearray(content)
    damaged[-5] ^= 1
    path.write_bytes(damaged)
    train(config)
    assert "It is written again from the checkpoint of the warm start" in capsys.readouterr().out
    assert path.read_bytes() == content


def test_saved_settings_hold_no_paths(configure: Configure, tmp_path: Path) -> None:
    config = configure(warm_start_steps=1, updates=1)
    train(config)
    for name in ("planner.json", "config.json"):
        assert str(tmp_path) not in (config.out / name).read_text().replace(config.toolbox, "")


def test_penalised_kl_is_logged(configure: Configure) -> None:
    config = configure(warm_start_steps=1, updates=2, kl_coef=0.1)
    train(config)
    values = [value for _, value in scalars(config.out)["train/kl_loss"]]
    assert len(values) == 2 and 0 <= values[0] < values[1]


@pytest.mark.parametrize("interrupted_at", [2, 3])
def test_resumed_run_equals_uninterrupted_run(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, interrupted_at: int
) -> None:
    train(configure("whole"))
    calls = 0
    original = trainer.collect_rollout

    def collect_rollout(*args: object, **options: object) -> RolloutBatch:
        nonlocal calls
        calls += 1
        if calls > interrupted_at:
            raise KeyboardInterrupt
        return original(*args, **options)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(trainer, "collect_rollout", collect_rollout)
    with pytest.raises(KeyboardInterrupt):
        train(configure("parts"))
    monkeypatch.undo()
    config = configure("parts")
    train(config)
    assert equal(configure("whole").out, config.out)
    steps = [step for step, _ in scalars(config.out)["reward/r_q"]]
    assert set(steps) == {1, 2, 3, 4}


def test_resumed_warm_start_equals_uninterrupted_one(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warm_start, "CHECKPOINT_INTERVAL", 2)
    train(configure("whole", updates=1))
    count = 0
    original = warm_start.imitation_loss

    def imitation_loss(*args: object) -> object:
        nonlocal count
        count += 1
        if count > 3:
            raise KeyboardInterrupt
        return original(*args)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(warm_start, "imitation_loss", imitation_loss)
    with pytest.raises(KeyboardInterrupt):
        train(configure("parts", updates=1))
    monkeypatch.undo()
    monkeypatch.setattr(warm_start, "CHECKPOINT_INTERVAL", 2)
    train(configure("parts", updates=1))
    assert equal(configure("whole").out, configure("parts").out)


def test_run_with_other_settings_is_refused(configure: Configure) -> None:
    train(configure(warm_start_steps=1, updates=1))
    with pytest.raises(RunError, match="lr"):
        train(configure(warm_start_steps=1, updates=1, lr=1e-5))


def test_finished_run_is_not_trained_further(configure: Configure) -> None:
    config = configure(warm_start_steps=1, updates=2)
    train(config)
    before = weights(config.out)
    train(config)
    assert all(torch.equal(before[name], value) for name, value in weights(config.out).items())


def test_a_run_can_be_resumed_with_more_updates(
    configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configure(warm_start_steps=1, updates=2)
    train(config)
    before = weights(config.out)
    train(config)
    assert f"{config.out} is finished, 2 of 2 updates" in capsys.readouterr().out
    train(replace(config, updates=3))
    out = capsys.readouterr().out
    assert f"{config.out}: updates 2, now 3" in out and "after 2 of 3 updates" in out
    assert not all(torch.equal(before[name], value) for name, value in weights(config.out).items())
    rates = scalars(config.out)["train/lr"]
    assert [step for step, _ in rates] == [1, 2, 3]
    assert rates[-1][1] == pytest.approx(config.lr * warmup_linear(2, 3, warmup=25, final=0.1))
    with pytest.raises(RunError, match="was trained for 3 updates, which cannot become 2"):
        train(config)
    assert json.loads((config.out / "config.json").read_text())["updates"] == 3


def test_inputs_of_a_resumed_run_are_compared_by_content(
    configure: Configure, small_toolbox: Path, photos: Path, tmp_path: Path
) -> None:
    folders = [Path(shutil.copytree(small_toolbox, tmp_path / name / "toolbox")) for name in ("T1", "T2")]
    images = Path(shutil.copytree(photos, tmp_path / "photographs"))
    config = configure(warm_start_steps=1, updates=1, toolbox=str(folders[0]))
    train(config)
    train(replace(config, toolbox=str(folders[1]), images=(images,)))
    toolbox = Toolbox.load(folders[1])
    module = toolbox["unet.denoise"].module
    assert module is not None
    torch.nn.init.zeros_(next(module.parameters()))
    toolbox.invalidate_fingerprint()
    toolbox.save(folders[1])
    (images / "0.png").unlink()
    with pytest.raises(RunError) as raised:
        train(replace(config, toolbox=str(folders[1]), images=(images,)))
    message = str(raised.value)
    assert "images " in message and "toolbox T2/toolbox (content " in message and "val" not in message


def test_mistyped_inputs_are_refused_and_nothing_is_written(configure: Configure, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    for settings, error in [
        ({"initial_weights": nowhere / "planner.safetensors"}, MissingWeightsError),
        ({"images": (nowhere,)}, SampleError),
        ({"val": nowhere}, SampleError),
        ({"toolbox": str(nowhere)}, ToolboxError),
        ({"reward": "lit"}, UnknownPresetError),
        ({"degradations": "no_such_module:OWN"}, SampleError),
        ({"device": "gpu"}, DeviceError),
    ]:
        with pytest.raises(error):
            train(replace(configure("mistyped"), **settings))
    with pytest.raises(SettingError, match="--lr nan: expected a number of at least 0"):
        configure("mistyped", lr=float("nan"))
    assert list(tmp_path.iterdir()) == []


def test_warm_start_of_another_run_can_be_used(configure: Configure) -> None:
    first = configure("first", updates=1)
    train(first)
    second = configure("second", updates=1, initial_weights=first.out / "warm.safetensors")
    train(second)
    assert equal(first.out, second.out) and not (second.out / "warm.safetensors").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"credit_assignment": "joint"},
        {"reward_form": "gated"},
        {"kl_coef": 0.1},
        {"tool_cost": 0.5},
        {"label_coef": 0.0},
    ],
    ids=str,
)
def test_settings_change_the_result(configure: Configure, settings: dict[str, object]) -> None:
    plain = configure("plain", updates=2)
    train(plain)
    start = plain.out / "warm.safetensors"
    other_config = configure("other", updates=2, initial_weights=start, **settings)
    train(other_config)
    assert not equal(plain.out, other_config.out)


@pytest.mark.slow
def test_regret_is_searched_once(configure: Configure, tmp_path: Path) -> None:
    config = configure(regret=True, warm_start_steps=1, updates=1, val_count=2)
    result = train(config)
    (path,) = tmp_path.glob("frozen-*.json")
    assert result.regret is not None and result.regret >= -1e-3
    path.write_text(json.dumps([value + 1 for value in json.loads(path.read_text())]))
    again = train(replace(config, out=tmp_path / "again"))
    assert again.regret == pytest.approx(result.regret + 1, abs=1e-4)


@pytest.mark.slow
def test_plans_become_shorter_when_tools_cost_more_than_they_gain(configure: Configure) -> None:
    """The policy starts almost untrained, and tools mostly reduce the reward."""
    config = configure(
        warm_start_steps=1, updates=12, batch_size=4, tool_cost=3.0, lr=3e-3, val_every=12, ent_coef=0.0
    )
    train(config)
    lengths = [value for _, value in scalars(config.out)["rollout/plan_length"]]
    assert sum(lengths[-3:]) < 0.6 * sum(lengths[:3])


@pytest.mark.slow
def test_killed_process_resumes_exactly(
    configure: Configure, child_environment: dict[str, str], tmp_path: Path
) -> None:
    """After kill -9 during GRPO, only updates since the last checkpoint are repeated."""
    config = configure("killed", updates=8)
    train(replace(config, out=tmp_path / "whole"))
    words = [sys.executable, "-m", "opera_agents.planner.train"]
    for name, value in vars(config).items():
        if value is not None and not isinstance(value, bool):
            values = value if isinstance(value, tuple) else (value,)
            words += [f"--{name.replace('_', '-')}", *map(str, values)]
    process = subprocess.Popen(
        words, env=child_environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not (config.out / "checkpoint.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert torch.load(config.out / "checkpoint.pt", weights_only=True)["update"] >= 2
    subprocess.run(words, env=child_environment, check=True, capture_output=True, timeout=240)
    assert equal(config.out, tmp_path / "whole")


def test_own_degradations_become_labels_of_the_planner(configure: Configure) -> None:
    config = configure(degradations="tests.degradations.own:OWN_DEGRADATIONS", updates=2, val_count=6)
    result = train(config)
    assert result.f1 is not None
    policy, card = load_policy(config.out)
    assert set(card.degradations) == {*DEGRADATIONS, "vignette", "salt_and_pepper"}
    image = torch.rand(3, 64, 64)
    (decision,) = Planner(policy, card, 3).act([Observation(image, image)])
    assert decision.probabilities is not None
    assert list(decision.probabilities) == list(card.degradations)
    with pytest.raises(SampleError, match="'no_such_module:OWN' cannot be imported"):
        train(configure("other", degradations="no_such_module:OWN"))


def test_a_planner_of_real_damage_knows_its_labels(configure: Configure, photos: Path) -> None:
    real = Path(f"real:{photos}")
    config = configure(images=(real,), val=real, updates=2)
    train(config)
    _, card = load_policy(config.out)
    assert card.degradations == REAL_LABELS


def test_a_planner_that_sees_windows_is_saved_with_its_version(configure: Configure) -> None:
    config = configure(encoder="windows-1", updates=1)
    train(config)
    policy, card = load_policy(config.out)
    assert card.encoder == "windows-1" and isinstance(policy.detector.encoder, WindowedEncoder)
    assert json.loads((config.out / "config.json").read_text())["encoder"] == "windows-1"
    plain = configure("plain", updates=1, initial_weights=config.out / "planner.safetensors")
    with pytest.raises(AgentError, match="not the weights of this network"):
        train(plain)
