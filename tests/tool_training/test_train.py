"""The trainer of single tools, with synthetic photographs and networks of a few hundred weights."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
import pytest
import torch
import tyro
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from opera_env.errors import MissingWeightsError, OperaError, RunError, SampleError, ToolboxError
from opera_env.metrics.lpips_alex import LpipsAlex
from opera_env.tool_training import lite_tools, pack, train
from opera_env.tool_training.lite_tools import ToolSpec
from opera_env.tool_training.pack import PackConfig
from opera_env.tool_training.train import TrainConfig
from opera_env.tools import Toolbox
from opera_env.tools.nets import build_net

TINY = {"widths": (4, 8), "unshuffle": 2}
SPECS = (
    ToolSpec("tiny.denoise", "noise", options=TINY, steps=6, batch_size=2, patch_size=32, margin=8),
    ToolSpec(
        "tiny.enlarge",
        "low_resolution",
        options={"widths": (4, 8), "unshuffle": 1, "scale": 4},
        steps=4,
        batch_size=2,
        patch_size=32,
        margin=8,
    ),
    ToolSpec("tiny.shift", "low_light", net="shift", options={"levels": 20.0}, steps=0),
)


@pytest.fixture(autouse=True)
def tiny_table(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Replaces the tools of the lite toolbox by three tiny ones."""
    _use(monkeypatch, *SPECS)
    monkeypatch.setattr("sys.argv", ["train", "tiny.denoise", "--images", "photographs"])
    threads = torch.get_num_threads(), cv2.getNumThreads()
    yield
    torch.set_num_threads(threads[0])
    cv2.setNumThreads(threads[1])


def _use(monkeypatch: pytest.MonkeyPatch, *specs: ToolSpec) -> None:
    monkeypatch.setattr(lite_tools, "LITE_TOOLS", specs)


@pytest.fixture
def config(tmp_path: Path, write_photographs: Any) -> TrainConfig:
    write_photographs(tmp_path / "data" / "train", 3, seed=0)
    write_photographs(tmp_path / "data" / "val", 2, seed=1)
    return TrainConfig(
        "tiny.denoise",
        images=(tmp_path / "data" / "train",),
        val=tmp_path / "data" / "val",
        out=tmp_path / "runs",
        warmup_steps=2,
        val_every=3,
        val_side=64,
        device="cpu",
        autocast=False,
    )


def test_training_writes_weights_record_checkpoint_and_curves(config: TrainConfig) -> None:
    result = train.train(config)
    folder = config.out / "tiny.denoise"

    settings = json.loads((folder / "config.json").read_text())
    assert settings["lr"] == SPECS[0].lr and settings["steps"] == 6
    assert settings["images"]["name"] == "data/train" and str(config.out) not in json.dumps(settings)
    checkpoint = torch.load(folder / "checkpoint.pt", weights_only=True)
    assert checkpoint["step"] == 6
    weights = load_file(folder / "tool.safetensors")
    assert weights.keys() == checkpoint["net"].keys()
    for key, value in weights.items():
        assert value.dtype == torch.float16
        assert torch.equal(value, checkpoint["net"][key].half())

    record = json.loads((folder / "training.json").read_text())
    assert record["data"] == "data/train"
    assert record["validation"] == "data/val"
    assert record["steps"] == 6
    assert record["images"] == 2
    assert record["psnr_gain"] == result["psnr_gain"]
    assert 10 < record["psnr_before"] < 30

    curves = EventAccumulator(str(folder)).Reload()
    assert [event.step for event in curves.Scalars("val/psnr_gain")] == [3, 6]
    assert curves.Images("val/input_restored_reference")
    assert not list(folder.glob("*.part"))


def test_training_raises_the_psnr(config: TrainConfig, monkeypatch: Any) -> None:
    untrained = train.validate(build_net("unet", TINY), _val_pairs(config), "cpu")
    assert untrained["psnr_gain"] == pytest.approx(0, abs=1e-6), "an untrained network is the identity"
    assert untrained["worse"] == 0
    _use(monkeypatch, replace(SPECS[0], batch_size=4))
    result = train.train(replace(config, steps=60, val_every=60, lr=5e-3))
    assert result["psnr_gain"] > 0.5


def _val_pairs(config: TrainConfig) -> Any:
    images = train.read_images(train.list_images(config.val))
    return [train.validation_pair(image, SPECS[0].degrade, 64, seed) for seed, image in enumerate(images)]


def test_super_resolution_is_compared_with_bicubic(config: TrainConfig) -> None:
    pairs = [
        train.validation_pair(image, SPECS[1].degrade, 64, 0)
        for image in train.read_images(train.list_images(config.val))
    ]
    untrained = train.validate(build_net("unet", dict(SPECS[1].options)), pairs, "cpu")
    assert untrained["psnr_gain"] == pytest.approx(0, abs=0.05)
    assert untrained["images"] == 2


def _weights(out: Path, name: str = "tiny.denoise") -> dict[str, torch.Tensor]:
    return torch.load(out / name / "checkpoint.pt", weights_only=True)["net"]


def _equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def _record(config: TrainConfig) -> dict[str, Any]:
    return json.loads((config.out / config.tool / "training.json").read_text())


def test_the_recorded_command_trains_the_same_tool_again(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(config, steps=2, lr=7e-4, seed=3, warmup_steps=1, autocast=False)
    train.train(config)
    program, *words = shlex.split(_record(config)["command"])
    assert [program, *words[:2]] == ["opera-env", "tools", "train"]
    monkeypatch.chdir(tmp_path)  # the command names the folders data/train and data/val
    again = tyro.cli(TrainConfig, args=words[2:])
    assert (again.tool, again.steps, again.lr, again.seed) == ("tiny.denoise", 2, 7e-4, 3)
    ignored = ("images", "val", "out", "val_every", "threads", "device")
    for name in set(asdict(config)).difference(ignored):
        assert getattr(again, name) == getattr(config, name), name
    assert ([path.resolve() for path in again.images], again.val.resolve()) == (
        [*config.images],
        config.val,
    )
    # The command contains only the settings that affect the result.
    train.train(replace(again, out=tmp_path / "again"))
    assert _equal(_weights(config.out), _weights(tmp_path / "again"))


def test_the_learning_rate_of_the_config_overrides_that_of_the_spec(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One step at a rate of 1e-9 hardly changes the weights, one at 1e-2 does."""
    config = replace(config, steps=1, warmup_steps=0)
    weights = {}
    for name, spec_lr, config_lr in (
        ("slow", 1e-9, None),
        ("fast", 1e-2, None),
        ("overridden", 1e-9, 1e-2),
    ):
        _use(monkeypatch, replace(SPECS[0], lr=spec_lr))
        run = replace(config, out=tmp_path / name, lr=config_lr)
        train.train(run)
        weights[name] = _weights(run.out)
        assert f" --lr {config_lr or spec_lr:g} " in _record(run)["command"]
    assert _equal(weights["fast"], weights["overridden"])
    assert weights["slow"]["tail.bias"].abs().max() < 1e-8, "the last layer starts at zero"
    assert weights["fast"]["tail.bias"].abs().max() > 1e-3


def test_init_from_uses_the_weights_of_another_tool(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = replace(SPECS[0], name="tiny.second", steps=1, lr=1e-9, init_from="tiny.denoise")
    _use(monkeypatch, *SPECS, second)
    train.train(replace(config, lr=1e-2))
    start = load_file(config.out / "tiny.denoise" / "tool.safetensors")
    assert start["tail.weight"].abs().max() > 1e-3, "the last layer starts at zero"

    train.train(replace(config, tool="tiny.second", seed=5))
    assert _equal(load_file(config.out / "tiny.second" / "tool.safetensors"), start)
    assert _record(config)["steps"] == 6
    assert _equal(load_file(config.out / "tiny.denoise" / "tool.safetensors"), start), (
        "the other tool stays the same"
    )


def test_resuming_ignores_init_from(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights of the checkpoint are not replaced by those of the other tool."""
    _use(monkeypatch, *SPECS, replace(SPECS[0], name="tiny.second", init_from="tiny.denoise"))
    for out in (config.out, tmp_path / "whole"):
        train.train(replace(config, out=out))
    second = replace(config, tool="tiny.second", seed=4)
    train.train(replace(second, out=tmp_path / "whole"))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        _kill_after(4, patch)
        train.train(second)
    train.train(second)
    assert _equal(_weights(config.out, "tiny.second"), _weights(tmp_path / "whole", "tiny.second"))


def test_init_from_needs_a_trained_tool(config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    _use(monkeypatch, *SPECS, replace(SPECS[0], name="tiny.second", init_from="tiny.denoise"))
    with pytest.raises(MissingWeightsError, match=r"opera-env tools train tiny\.denoise ") as caught:
        train.train(replace(config, tool="tiny.second"))
    assert str(config.out) in str(caught.value)
    assert not list(config.out.rglob("*.safetensors"))
    assert not list(config.out.rglob("*.pt"))


def _invert(image: NDArray[np.uint8], rng: Generator) -> NDArray[np.uint8]:
    return 255 - image


def test_the_training_data_degrades_training_and_validation_pairs(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes: list[tuple[int, ...]] = []

    def invert(image: NDArray[np.uint8], rng: Generator) -> NDArray[np.uint8]:
        shapes.append(image.shape[:2])
        return _invert(image, rng)

    _use(monkeypatch, replace(SPECS[0], training_data=invert, margin=0, steps=40, lr=2e-2))
    result = train.train(replace(config, val_every=40))
    photographs = train.read_images(train.list_images(config.val))
    pairs = [train.validation_pair(image, _invert, 64, 0) for image in photographs]
    before = [
        train.psnr(*(batch.mul(255).round() for batch in train.collate_pairs([pair]))) for pair in pairs
    ]
    assert result["psnr_before"] == pytest.approx(float(torch.cat(before).mean()), abs=1e-3)
    assert shapes == [(64, 64)] * 2 + [(32, 32)] * 40 * SPECS[0].batch_size
    assert result["psnr_gain"] > 1, "a network that was trained on noise cannot invert images"


@pytest.mark.parametrize("degradation", ["haze", "noise"])
def test_only_hazy_patches_are_not_rotated(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, degradation: str
) -> None:
    rows = np.repeat(np.arange(128, dtype=np.uint8)[:, None], 128, axis=1)
    (tmp_path / "ramp").mkdir()
    Image.fromarray(np.stack([rows] * 3, axis=2)).save(tmp_path / "ramp" / "0.png")
    upright: list[bool] = []

    def record(image: NDArray[np.uint8], rng: Generator) -> NDArray[np.uint8]:
        upright.append(bool(image[-1, 0, 0] > image[0, 0, 0]))
        return image

    _use(monkeypatch, replace(SPECS[0], degradation=degradation, training_data=record, batch_size=8))
    train.train(replace(config, images=(tmp_path / "ramp",), val=tmp_path / "ramp", steps=2))
    assert all(upright) == (degradation == "haze")


@pytest.mark.needs_weights("lpips")
def test_lpips_in_the_loss_lowers_lpips(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lpips = LpipsAlex()
    distances: dict[float, float] = {}
    for weight in (0.0, 5.0):
        _use(monkeypatch, replace(SPECS[0], lpips_weight=weight, steps=40, lr=1e-2))
        run = replace(config, out=tmp_path / f"{weight}", val_every=40)
        train.train(run)
        net = build_net("unet", TINY)
        net.load_state_dict(_weights(run.out))
        degraded, clean = train.collate_pairs(_val_pairs(config))
        with torch.inference_mode():
            distances[weight] = lpips(net(degraded).clamp(0, 1), clean).mean().item()
    assert distances[5.0] < 0.95 * distances[0.0]


def _kill_after(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupts the training during the step after ``step``."""
    left = step * SPECS[0].batch_size
    real = train.training_pair

    def interrupted_pair(*arguments: Any) -> Any:
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        return real(*arguments)

    monkeypatch.setattr(train, "training_pair", interrupted_pair)


@pytest.mark.parametrize("killed_after", [3, 5])
def test_resumed_training_equals_uninterrupted_training(
    config: TrainConfig, tmp_path: Path, killed_after: int
) -> None:
    whole = replace(config, out=tmp_path / "whole")
    expected = train.train(whole)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        _kill_after(killed_after, patch)
        train.train(config)
    assert torch.load(config.out / "tiny.denoise" / "checkpoint.pt", weights_only=True)["step"] == 3
    assert not (config.out / "tiny.denoise" / "tool.safetensors").exists()

    torch.manual_seed(99)  # the random state at the time of resuming has no effect
    resumed = train.train(config)
    assert _equal(_weights(whole.out), _weights(config.out))
    assert resumed["psnr_gain"] == expected["psnr_gain"]


def test_an_interrupted_checkpoint_keeps_the_previous_one(config: TrainConfig) -> None:
    real = torch.save

    def half(state: Any, file: BinaryIO) -> None:
        if state["step"] == 6:
            file.write(b"half")
            raise KeyboardInterrupt
        real(state, file)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(torch, "save", half)
        train.train(config)
    assert torch.load(config.out / "tiny.denoise" / "checkpoint.pt", weights_only=True)["step"] == 3
    train.train(config)
    assert torch.load(config.out / "tiny.denoise" / "checkpoint.pt", weights_only=True)["step"] == 6


def test_a_finished_training_is_not_continued(config: TrainConfig) -> None:
    expected = train.train(config)
    before = _weights(config.out)
    again = train.train(config)
    assert _equal(_weights(config.out), before)
    assert again["psnr_gain"] == expected["psnr_gain"]


def test_a_run_can_be_resumed_with_more_steps(
    config: TrainConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    train.train(replace(config, steps=2))
    train.train(replace(config, steps=2))
    folder = config.out / "tiny.denoise"
    assert f"{folder} is finished, 2 of 2 steps" in capsys.readouterr().out
    train.train(replace(config, steps=3))
    assert f"{folder}: steps 2, now 3" in capsys.readouterr().out
    assert torch.load(folder / "checkpoint.pt", weights_only=True)["step"] == 3
    curves = EventAccumulator(str(folder)).Reload()
    assert [event.step for event in curves.Scalars("val/psnr_gain")] == [2, 3]


def test_a_run_with_other_settings_or_images_is_refused(
    config: TrainConfig, tmp_path: Path, write_photographs: Any
) -> None:
    config = replace(config, steps=1)
    train.train(config)
    with pytest.raises(RunError, match=r"\(seed 0, now 1\): choose another --out"):
        train.train(replace(config, seed=1))
    write_photographs(tmp_path / "other" / "train", 3, seed=5)
    with pytest.raises(RunError, match=r"\(images data/train \(content .*\), now other/train"):
        train.train(replace(config, images=(tmp_path / "other" / "train",)))


def test_mistyped_folders_are_refused_and_nothing_is_written(config: TrainConfig, tmp_path: Path) -> None:
    for settings in ({"images": (tmp_path / "nowhere",)}, {"val": tmp_path / "nowhere"}):
        with pytest.raises(SampleError, match="nowhere: expected a folder of images"):
            train.train(replace(config, **settings))
    assert not config.out.exists()


def test_equal_seeds_give_equal_weights(config: TrainConfig, tmp_path: Path) -> None:
    runs = {
        name: _weights_of(replace(config, out=tmp_path / name, seed=seed, steps=2, val_every=2))
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    }
    assert _equal(runs["a"], runs["b"])
    assert not _equal(runs["a"], runs["c"])


def _weights_of(config: TrainConfig) -> dict[str, torch.Tensor]:
    train.train(config)
    return _weights(config.out)


def test_a_checkpoint_beyond_the_requested_steps_is_refused(config: TrainConfig) -> None:
    """The weights and the record of the longer training stay."""
    train.train(config)
    folder = config.out / "tiny.denoise"
    before = {path.name: path.read_bytes() for path in folder.glob("t*.*")}
    with pytest.raises(RunError, match=r"6 steps.*become 4"):
        train.train(replace(config, steps=4))
    assert {"tool.safetensors", "training.json"} <= set(before)
    assert {path.name: path.read_bytes() for path in folder.glob("t*.*")} == before


def test_unknown_tools_tools_without_weights_and_empty_folders_are_refused(
    config: TrainConfig, tmp_path: Path
) -> None:
    with pytest.raises(OperaError, match=r"tiny\.sharpen.*tiny\.denoise"):
        train.train(replace(config, tool="tiny.sharpen"))
    with pytest.raises(ToolboxError, match="no weights"):
        train.train(replace(config, tool="tiny.shift"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(OperaError, match="expected images"):
        train.train(replace(config, images=(tmp_path / "empty",)))


def test_photographs_smaller_than_a_patch_are_refused(
    config: TrainConfig, tmp_path: Path, write_photographs: Any
) -> None:
    """The error comes before training starts."""
    write_photographs(tmp_path / "small", 2, seed=0, sides=(40, 40))
    with pytest.raises(OperaError, match="64"):
        train.train(replace(config, val=tmp_path / "small"))


def test_psnr_equals_values_computed_by_hand() -> None:
    black = torch.zeros(3, 3, 4, 4, dtype=torch.uint8)
    other_image = black.clone()
    other_image[1] += 255
    other_image[2, 0, 0, 0] = 10  # one of 48 values off by 10
    values = train.psnr(other_image, black).tolist()
    assert values[1] == pytest.approx(0, abs=1e-6)
    assert values[2] == pytest.approx(44.9429, abs=1e-3)  # 10 log10(255^2 / (100 / 48))
    assert values[0] > 60


def test_trained_tools_are_packed_into_a_toolbox(config: TrainConfig, tmp_path: Path) -> None:
    train.train(config)
    with pytest.raises(MissingWeightsError, match=r"opera-env tools train tiny\.enlarge"):
        pack.pack(PackConfig(config.out, tmp_path / "box"))
    train.train(replace(config, tool="tiny.enlarge"))
    pack.pack(PackConfig(config.out, tmp_path / "box"))

    toolbox = Toolbox.load(tmp_path / "box")
    assert toolbox.names == ("tiny.denoise", "tiny.enlarge", "tiny.shift")
    assert [tool.scale for tool in toolbox] == [1, 4, 1]
    assert [tool.multiple for tool in toolbox] == [4, 2, 1]
    assert [tool.degradations for tool in toolbox] == [{"noise"}, {"low_resolution"}, {"low_light"}]
    assert toolbox["tiny.denoise"].training["data"] == "data/train"
    weights = _weights(config.out)
    module = toolbox["tiny.denoise"].module
    assert module is not None
    for key, value in module.state_dict().items():
        assert torch.equal(value, weights[key].half().float())
    image = torch.rand(1, 3, 10, 10)
    with torch.inference_mode():
        assert toolbox["tiny.enlarge"](image, (40, 40)).shape == (1, 3, 40, 40)
        torch.testing.assert_close(toolbox["tiny.shift"](image, (10, 10)), (image + 20 / 255).clamp(0, 1))

    (config.out / "tiny.enlarge" / "tool.safetensors").unlink()
    (config.out / "tiny.enlarge").rename(tmp_path / "elsewhere")
    pack.pack(PackConfig(config.out, tmp_path / "again", base=str(tmp_path / "box")))
    assert Toolbox.load(tmp_path / "again").fingerprint == toolbox.fingerprint, (
        "one tool was trained, the other is from the base toolbox"
    )
