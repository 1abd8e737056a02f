"""Co-training with small settings: it learns, logs, keeps the best tools, and resumes exactly."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from opera_agents.cotraining import train as training
from opera_agents.cotraining.config import CotrainingConfig
from opera_agents.cotraining.train import train
from opera_agents.planner.saved import PolicyCard, save_policy
from opera_env.errors import (
    ExecutionUpdateError,
    MissingWeightsError,
    RunError,
    SampleError,
    SettingError,
    ToolboxError,
    UnknownPresetError,
)
from opera_env.tools import Tool, Toolbox

Configure = Callable[..., CotrainingConfig]


def test_run_logs_and_keeps_the_best_tools(configure: Configure) -> None:
    config = configure()
    result = train(config)
    best = Toolbox.load(config.out / "toolbox")
    assert best.signature == Toolbox.load(config.toolbox).signature
    assert best.fingerprint != Toolbox.load(config.toolbox).fingerprint
    metadata = best["unet.denoise"].training["cotraining"]
    assert metadata["agent"] == "matched" and metadata["epochs"] == 2 and "photos" in metadata["images"]
    events = EventAccumulator(str(config.out)).Reload()
    tags = set(events.Tags()["scalars"])
    assert {"tools/loss", "tools/grad_norm", "tools/weight/l1", "val/reward", "val/psnr_y"} <= tags
    assert [event.step for event in events.Scalars("val/reward")] == [0, 2, 4]
    assert max(event.value for event in events.Scalars("val/reward")[1:]) == pytest.approx(
        result.reward, abs=0.02
    )
    assert json.loads((config.out / "config.json").read_text())["lr"] == config.lr


def test_run_with_own_degradations(configure: Configure, small_toolbox: Path, tmp_path: Path) -> None:
    """Tools for custom degradations are rehearsed and validated on them."""
    toolbox = Toolbox.load(small_toolbox).subset(["unet.denoise"])
    tool = replace(
        toolbox["unet.denoise"], name="unet.despeckle", degradations=frozenset({"salt_and_pepper"})
    )
    Toolbox([tool]).save(tmp_path / "own")
    custom_degradations = "tests.degradations.own:OWN_DEGRADATIONS"
    config = configure(
        toolbox=str(tmp_path / "own"), degradations=custom_degradations, epochs=1, rehearsal_prob=0.8
    )
    assert 0 < train(config).reward < 10
    assert json.loads((config.out / "config.json").read_text())["degradations"] == custom_degradations


def test_resumed_run_equals_uninterrupted_run(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = configure("whole", epochs=3), configure("parts", epochs=3)
    train(whole)
    step, calls = training.ExecutionUpdate.step, []

    def interrupted(self: object, *args: object) -> object:
        calls.append(1)
        if len(calls) == 4:  # in the middle of the second epoch
            raise KeyboardInterrupt
        return step(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(training.ExecutionUpdate, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(parts)
    train(parts)
    first, second = (
        torch.load(config.out / "checkpoint.pt", weights_only=True) for config in (whole, parts)
    )
    torch.testing.assert_close(first["tools"], second["tools"], rtol=0, atol=0)
    torch.testing.assert_close(first["update"], second["update"], rtol=0, atol=0)
    assert first["best"] == second["best"]


def test_loss_that_is_not_finite_keeps_the_best_tools(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configure(epochs=3)
    step = training.ExecutionUpdate.step

    def with_nan(self: training.ExecutionUpdate, *args: object) -> object:
        if self.steps == 3:
            torch.nn.init.constant_(next(iter(self._parameters["unet.dejpeg"])), float("nan"))
        return step(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(training.ExecutionUpdate, "step", with_nan)
    with pytest.raises(ExecutionUpdateError, match=r"unet\.dejpeg"):
        train(replace(config, random_plan_prob=1.0, batch_size=16))
    best_tools = Toolbox.load(config.out / "toolbox")
    modules = [tool.module for tool in best_tools if tool.module is not None]
    assert all(tensor.isfinite().all() for module in modules for tensor in module.parameters())


def test_run_with_other_settings_is_refused(configure: Configure) -> None:
    config = configure(epochs=1)
    train(config)
    with pytest.raises(RunError, match=r"lr 0\.0003, now 0\.1"):
        train(replace(config, lr=0.1))


def test_a_run_can_be_resumed_with_more_epochs(
    configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configure(epochs=1, steps_per_epoch=1)
    train(config)
    train(config)
    assert f"{config.out} is finished, 1 of 1 epochs" in capsys.readouterr().out
    train(replace(config, epochs=2))
    assert f"{config.out}: epochs 1, now 2" in capsys.readouterr().out
    with pytest.raises(RunError, match="was trained for 2 epochs, which cannot become 1"):
        train(config)


def test_another_agent_of_the_same_name_is_refused(configure: Configure, tmp_path: Path) -> None:
    config = configure(epochs=1, steps_per_epoch=1, agent=f"planner:{tmp_path / 'agent'}")
    toolbox = Toolbox.load(config.toolbox)
    card = PolicyCard(toolbox.signature, toolbox.names, max_tools=3)
    for seed in (0, 1):
        torch.manual_seed(seed)
        save_policy(card.build(), card, tmp_path / "agent")
        if seed == 0:
            train(config)
    with pytest.raises(RunError, match=r"\(agent planner:.*/agent \(content .*\), now planner:"):
        train(config)


def test_mistyped_inputs_are_refused_and_nothing_is_written(configure: Configure, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    for settings, error in [
        ({"agent": f"planner:{nowhere}"}, MissingWeightsError),
        ({"agent": "plannr"}, UnknownPresetError),
        ({"images": (nowhere,)}, SampleError),
        ({"toolbox": str(nowhere)}, ToolboxError),
        ({"loss": "lit"}, UnknownPresetError),
    ]:
        with pytest.raises(error):
            train(replace(configure("mistyped"), **settings))
    with pytest.raises(SettingError, match=r"--misuse-prob 1\.5: expected a number from 0 to 1"):
        configure("mistyped", misuse_prob=1.5)
    assert list(tmp_path.iterdir()) == []


def test_tools_can_be_adapted_alone(configure: Configure) -> None:
    train(configure(adapt_alone=True))


def test_tools_can_be_trained_one_at_a_time_and_then_together(configure: Configure) -> None:
    """Tools that are not trained keep their weights, and the manifest lists all training of each tool."""
    first = configure(
        "first",
        trainable_tools=("unet.denoise",),
        add_tone_curves=False,
        rehearsal_prob=0.8,
        misuse_prob=0.2,
    )
    train(first)
    before, after = Toolbox.load(first.toolbox), Toolbox.load(first.out / "toolbox")
    changed = {tool.name for tool in after if _differs(tool, before[tool.name])}
    assert changed == {"unet.denoise"}
    second = configure("second", toolbox=str(first.out / "toolbox"))
    train(second)
    trained = Toolbox.load(second.out / "toolbox")
    cards = {tool.name: tool.training.get("cotraining", {}) for tool in trained}
    assert cards["unet.denoise"]["previous"]["trainable_tools"] == ["unet.denoise"]
    assert "previous" not in cards["unet.dejpeg"] and cards["unet.dejpeg"]["trainable_tools"] == []


def test_brighteners_get_a_tone_curve_if_configured(configure: Configure) -> None:
    toolbox = Toolbox.load("lite").subset(["brighten.gamma_correction", "unet.dejpeg"])
    plain = configure("plain").out.parent / "plain_toolbox"
    toolbox.save(plain)
    for tone in (True, False):
        config = configure(f"tone-{tone}", toolbox=str(plain), add_tone_curves=tone, epochs=1)
        train(config)
        brightener = Toolbox.load(config.out / "toolbox")["brighten.gamma_correction"]
        assert bool(brightener.parameters) == tone == brightener.uses_global_context


def _differs(tool: Tool, other: Tool) -> bool:
    assert tool.module is not None and other.module is not None
    theirs = other.module.half().float().state_dict()  # as they are stored
    return any(not torch.equal(value, theirs[key]) for key, value in tool.module.state_dict().items())


@pytest.mark.slow
def test_two_processes_equal_one(
    configure: Configure, child_environment: dict[str, str], tmp_path: Path
) -> None:
    alone, together = configure("alone", max_grad_norm=1e9), configure("together", max_grad_norm=1e9)
    train(alone)
    script = tmp_path / "run.py"
    script.write_text(
        "from pathlib import PosixPath\n"
        "from opera_agents.cotraining.config import CotrainingConfig\n"
        "from opera_agents.cotraining.train import train\n"
        f"train(CotrainingConfig(**{_literal(together)}))\n"
    )
    command = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"]
    command += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", str(script)]
    done = subprocess.run(command, env=child_environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = (
        torch.load(config.out / "checkpoint.pt", weights_only=True) for config in (alone, together)
    )
    for name, weights in first["tools"].items():
        torch.testing.assert_close(second["tools"][name], weights, rtol=1e-3, atol=1e-5)


def _literal(config: CotrainingConfig) -> str:
    """Returns the settings as a Python expression."""
    return repr({name: getattr(config, name) for name in config.__dataclass_fields__})


def test_tools_are_trained_on_real_damage(configure: Configure, photos: Path) -> None:
    real = Path(f"real:{photos}")
    config = configure(images=(real,), val=real, epochs=1, rehearsal_prob=0.4, misuse_prob=0.3)
    assert train(config).reward > 0
    settings = json.loads((config.out / "config.json").read_text())
    assert settings["images"]["content"].startswith("real:") and settings["val"]["name"].startswith("real:")
