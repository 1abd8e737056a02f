"""Training of tools of the pool ``real``: initial weights from a toolbox, looks as references, curves."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from opera_env.errors import ToolboxError, UnknownToolError
from opera_env.tool_training import real_data, real_tools, train
from opera_env.tool_training.config import TrainConfig
from opera_env.tool_training.lite_tools import ToolSpec
from opera_env.tool_training.losses import ZeroReference
from opera_env.tools import Toolbox
from tests.random_tools import random_unet_tool

TINY = {"widths": (4, 8), "unshuffle": 2}
NEW = ToolSpec(
    "tiny.light",
    "low_light",
    "expose",
    options={"width": 4},
    training_data=real_data.EXPOSURE,
    steps=2,
    batch_size=2,
    patch_size=32,
    margin=0,
    loss_reduction=4,
    zero_reference=ZeroReference(exposure=1),
)
STARTED = ToolSpec(
    "tiny.dejpeg",
    "jpeg",
    options=TINY,
    training_data=real_data.COMPRESSION,
    steps=1,
    batch_size=2,
    patch_size=32,
    margin=8,
    lr=1e-9,
    initial_tool="tiny.denoise",
)


@pytest.fixture(autouse=True)
def tiny_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(real_tools, "REAL_TOOLS", (NEW, STARTED))


@pytest.fixture
def config(tmp_path: Path, write_photographs: Any) -> TrainConfig:
    for folder, seed in (("train", 0), ("val", 1)):
        write_photographs(tmp_path / "data" / folder, 2, seed=seed)
    Toolbox([random_unet_tool("tiny.denoise", 0, 0.1, TINY)]).save(tmp_path / "data" / "toolbox")
    return TrainConfig(
        "tiny.dejpeg",
        images=(tmp_path / "data" / "train",),
        val=tmp_path / "data" / "val",
        pool="real",
        initial_toolbox=str(tmp_path / "data" / "toolbox"),
        out=tmp_path / "runs",
        warmup_steps=0,
        val_side=64,
        device="cpu",
        autocast=False,
    )


def _weights(config: TrainConfig) -> dict[str, torch.Tensor]:
    return torch.load(config.out / config.tool / "checkpoint.pt", weights_only=True)["net"]


def test_a_tool_starts_from_the_weights_of_the_named_toolbox(config: TrainConfig) -> None:
    train.train(config)
    module = Toolbox.load(config.initial_toolbox or "")["tiny.denoise"].module
    assert module is not None
    for name, value in module.state_dict().items():
        torch.testing.assert_close(_weights(config)[name], value, atol=1e-6, rtol=0)
    record = json.loads((config.out / config.tool / "training.json").read_text())
    assert record["start"] == "data/toolbox/tiny.denoise"
    assert "--pool real" in record["command"] and "--initial-toolbox" in record["command"]


def test_a_toolbox_without_the_tool_or_with_another_network_is_refused(
    config: TrainConfig, tmp_path: Path
) -> None:
    with pytest.raises(UnknownToolError, match=r"tiny\.denoise"):
        train.train(replace(config, initial_toolbox="lite"))
    wide = tmp_path / "wide"
    Toolbox([random_unet_tool("tiny.denoise", 0, 0.1, {"widths": (4, 12)})]).save(wide)
    with pytest.raises(ToolboxError, match=r"tiny\.dejpeg starts from tiny\.denoise of .*found"):
        train.train(replace(config, initial_toolbox=str(wide)))
    assert not config.out.exists()


def test_terms_without_reference_brighten(config: TrainConfig, tmp_path: Path) -> None:
    """Their factor 0 leaves them out, and the default is 1."""
    config = replace(config, tool="tiny.light", initial_toolbox=None, lr=1e-2)
    weights = {}
    for factor in (None, 1.0, 0.0):
        run = replace(config, out=tmp_path / f"{factor}", zero_reference=factor)
        train.train(run)
        weights[factor] = _weights(run)
    assert all(torch.equal(weights[None][name], weights[1.0][name]) for name in weights[None])
    assert not all(torch.equal(weights[0.0][name], weights[1.0][name]) for name in weights[None])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["unet.dejpeg", "expose.light"])
def test_one_step_of_a_tool_of_full_size(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch, name: str, write_photographs: Any, tmp_path: Path
) -> None:
    monkeypatch.undo()
    write_photographs(tmp_path / "large", 2, seed=0, sides=(200, 208))
    config = replace(
        config, tool=name, images=(tmp_path / "large",), initial_toolbox=None, steps=1, val_side=128
    )
    result = train.train(config)
    assert result["images"] == 2 and (config.out / name / "tool.safetensors").is_file()
