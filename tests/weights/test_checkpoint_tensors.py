"""Weights inside of checkpoints as training programs write them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from opera_env.errors import WeightsIntegrityError
from opera_env.weights.tensors import load_checkpoint_tensors

STATE = {"a.weight": torch.ones(2), "a.bias": torch.zeros(1)}
OTHER = {"a.weight": torch.zeros(2), "a.bias": torch.zeros(1)}


@pytest.mark.parametrize(
    "content",
    [
        STATE,
        {"params": STATE},
        {"params": OTHER, "params_ema": STATE},
        {"state_dict": {f"module.{name}": value for name, value in STATE.items()}, "epoch": 3},
        {"state_dict": {f"net.{name}": value for name, value in STATE.items()}, "callbacks": {"x": None}},
        {"net_g": {"params": STATE}},
    ],
    ids=["flat", "params", "params_ema", "state_dict", "lightning", "nested twice"],
)
def test_the_weights_are_found(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "net.pth")
    found = load_checkpoint_tensors(tmp_path / "net.pth")
    assert found.keys() == STATE.keys()
    assert torch.equal(found["a.weight"], STATE["a.weight"])


def test_safetensors_are_read_too(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "net.safetensors")
    assert load_checkpoint_tensors(tmp_path / "net.safetensors").keys() == STATE.keys()


def test_anything_else_is_named(tmp_path: Path, make_malicious: Callable[[Path], object]) -> None:
    path, endless = tmp_path / "net.pth", {}
    endless["params"] = endless
    for content, expected in (
        ({"optimizer": {}, "epoch": 1}, "params_ema, params.*none, but 'optimizer', 'epoch'"),
        ({}, "but nothing"),
        (torch.ones(2), "Tensor"),
        (endless, "named tensors"),
        (make_malicious(tmp_path / "made"), "unreadable"),
    ):
        torch.save(content, path)
        with pytest.raises(WeightsIntegrityError, match=expected):
            load_checkpoint_tensors(path)
    path.write_bytes(b"<html>")
    with pytest.raises(WeightsIntegrityError, match="unreadable"):
        load_checkpoint_tensors(path)
    assert not (tmp_path / "made").exists()
