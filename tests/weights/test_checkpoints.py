"""Checkpoints are replaced atomically and read without running code; weights are stored as float16."""

from __future__ import annotations

import os
import resource
import signal
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from opera_env.errors import RunError, WeightsIntegrityError
from opera_env.weights.checkpoints import (
    load_as_float32,
    load_checkpoint,
    previous_checkpoint,
    save_checkpoint,
    save_half,
)
from tests.every_instruction import signal_at_every_instruction


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

    def write_half(state: object, file: Any) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", write_half)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(path, {"step": 2})
    monkeypatch.undo()
    assert load_checkpoint(path) == {"step": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_checkpoint_with_code_is_refused(tmp_path: Path) -> None:
    torch.save({"step": print}, tmp_path / "checkpoint.pt")
    with pytest.raises(RunError, match="Weights only load failed"):
        load_checkpoint(tmp_path / "checkpoint.pt")


def test_a_checkpoint_is_a_file_of_torch(tmp_path: Path) -> None:
    """Plain torch.load reads checkpoints, and files of plain torch.save are checkpoints without digest."""
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"step": 1})
    assert torch.load(path, weights_only=True) == {"step": 1}
    torch.save({"step": 2}, path)
    assert load_checkpoint(path) == {"step": 2}
    torch.save([1], path)
    with pytest.raises(RunError, match="it holds list instead of a dictionary"):
        load_checkpoint(path)


def test_every_flipped_bit_and_every_cut_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"weights": torch.arange(3.0), "step": 7})
    content, rng = path.read_bytes(), np.random.default_rng(0)
    for position in rng.choice(len(content), 100, replace=False):
        damaged = bytearray(content)
        damaged[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        with pytest.raises(RunError, match="its content does not have the digest at its end"):
            load_checkpoint(path)
    for size in (0, 1, 65, 66, 67, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(RunError, match=rf"Delete {path} to train again from the beginning"):
            load_checkpoint(path)


def test_the_previous_checkpoint_stands_in_for_a_damaged_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "checkpoint.pt"
    for step in (1, 2, 3):
        save_checkpoint(path, {"step": step})
    assert load_checkpoint(path) == {"step": 3} and capsys.readouterr().out == ""
    path.write_bytes(path.read_bytes()[:-10])
    assert load_checkpoint(path) == {"step": 2}
    assert "resuming from the previous checkpoint, checkpoint.previous.pt" in capsys.readouterr().out
    path.unlink()  # as after a kill between two renamings
    assert load_checkpoint(path) == {"step": 2}
    path.write_bytes(b"")
    previous_checkpoint(path).write_bytes(b"")
    with pytest.raises(RunError, match=r"checkpoint\.pt and .*checkpoint\.previous\.pt to train again"):
        load_checkpoint(path)


def test_a_full_disk_is_reported_as_such(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"step": 1})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(OSError, match=r"File too large: '.*checkpoint\.pt'"):
            save_checkpoint(path, {"weights": torch.ones(30_000)})
        with pytest.raises(OSError, match=r"File too large: '.*weights\.safetensors'"):
            save_half({"weights": torch.ones(30_000)}, tmp_path / "weights.safetensors")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]
    assert load_checkpoint(path) == {"step": 1}


def test_a_signal_while_a_checkpoint_is_written_is_no_error_of_the_archive(tmp_path: Path) -> None:
    """Anything that is raised while PyTorch writes becomes an error of its own, or aborts the process."""
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"step": 1})

    def check() -> None:
        assert load_checkpoint(path) is not None

    save = partial(save_checkpoint, path, {"step": 2})
    assert signal_at_every_instruction(signal.SIGTERM, save, check, stride=29) > 1000


def test_files_can_be_read_by_others(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        save_checkpoint(tmp_path / "checkpoint.pt", {"step": 1})
        save_half({"weights": torch.ones(3)}, tmp_path / "weights.safetensors")
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o644}


def test_flipped_weights_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_half({"weights": torch.arange(3.0)}, path)
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(WeightsIntegrityError, match=r"weights\.safetensors: expected sha256"):
        load_as_float32(path)
    save_file({"weights": torch.arange(3.0)}, path)  # a file of others has no digest
    assert load_as_float32(path)["weights"].tolist() == [0, 1, 2]


def test_half_precision_weights_are_read_as_float32(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    weights = {"a": torch.tensor([1.0, 0.1]), "b": torch.ones(2, 3).T}
    save_half(weights, path, {"training": "{}"})
    actual = load_as_float32(path)
    assert {name: tensor.dtype for name, tensor in actual.items()} == dict.fromkeys("ab", torch.float32)
    assert all(torch.equal(actual[name], weights[name].half().float()) for name in "ab")
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        assert metadata["training"] == "{}" and set(metadata) == {"training", "sha256"}
        assert file.get_tensor("a").dtype == torch.float16


def test_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.safetensors").write_bytes(b"no tensors")
    with pytest.raises(WeightsIntegrityError):
        load_as_float32(tmp_path / "weights.safetensors")
