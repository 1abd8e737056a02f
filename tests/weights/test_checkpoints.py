"""Checkpoints are replaced atomically and read without running code; weights are stored as float16."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from opera_env.errors import WeightsIntegrityError
from opera_env.weights.checkpoints import load_as_float32, load_checkpoint, save_checkpoint, save_half


def test_load_returns_what_was_saved(tmp_path: Path) -> None:
    path = tmp_path / "run" / "checkpoint.pt"
    save_checkpoint(path, {"weights": torch.arange(3.0), "step": 7, "budget": {"seconds": 1.5}})
    state = load_checkpoint(path)
    assert state is not None and state["step"] == 7 and state["budget"] == {"seconds": 1.5}
    assert state["weights"].tolist() == [0.0, 1.0, 2.0]
    assert [file.name for file in path.parent.iterdir()] == ["checkpoint.pt"]


def test_absent_checkpoint_is_none(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path / "checkpoint.pt") is None


def test_failed_save_leaves_the_previous_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"step": 1})

    def write_half(state: object, part: Path) -> None:
        Path(part).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", write_half)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(path, {"step": 2})
    monkeypatch.undo()
    assert load_checkpoint(path) == {"step": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_checkpoint_with_code_is_refused(tmp_path: Path) -> None:
    torch.save({"step": print}, tmp_path / "checkpoint.pt")
    with pytest.raises(pickle.UnpicklingError):
        load_checkpoint(tmp_path / "checkpoint.pt")


def test_half_precision_weights_are_read_as_float32(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    weights = {"a": torch.tensor([1.0, 0.1]), "b": torch.ones(2, 3).T}
    save_half(weights, path, {"training": "{}"})
    actual = load_as_float32(path)
    assert {name: tensor.dtype for name, tensor in actual.items()} == dict.fromkeys("ab", torch.float32)
    assert all(torch.equal(actual[name], weights[name].half().float()) for name in "ab")
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"training": "{}"}
        assert file.get_tensor("a").dtype == torch.float16


def test_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.safetensors").write_bytes(b"no tensors")
    with pytest.raises(WeightsIntegrityError):
        load_as_float32(tmp_path / "weights.safetensors")
