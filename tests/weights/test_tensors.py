"""Files of named tensors: hashes, and reading without running code."""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from opera_env import weights
from opera_env.errors import WeightsIntegrityError
from tests.every_instruction import signal_at_every_instruction


def test_the_hash_depends_on_names_shapes_types_and_values(tensors: dict[str, torch.Tensor]) -> None:
    weight = tensors["features.0.weight"]
    variants = [
        tensors,
        {"other.weight": weight, "features.0.bias": tensors["features.0.bias"]},
        tensors | {"features.0.weight": weight.T.contiguous()},
        tensors | {"features.0.weight": weight.to(torch.bfloat16)},
        tensors | {"features.0.weight": weight + 1e-6},
    ]
    assert len({weights.tensors_sha256(variant) for variant in variants}) == len(variants)
    assert weights.tensors_sha256(dict(reversed(tensors.items()))) == weights.tensors_sha256(tensors)


def test_loading_tensors_runs_no_code(
    tensors: dict[str, torch.Tensor], tmp_path: Path, make_malicious: Callable[[Path], object]
) -> None:
    save_file(tensors, tmp_path / "a.safetensors")
    torch.save(tensors, tmp_path / "a.pth")
    for name in ("a.safetensors", "a.pth"):
        assert weights.tensors_sha256(weights.load_tensors(tmp_path / name)) == weights.tensors_sha256(
            tensors
        )
    bad = {
        "code.pth": make_malicious(tmp_path / "ran"),
        "list.pth": [1, 2],
        "nested.pth": {"params": tensors},
    }
    for name, content in bad.items():
        torch.save(content, tmp_path / name)
        with pytest.raises(WeightsIntegrityError):
            weights.load_tensors(tmp_path / name)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth", "old.pth"])
def test_damaged_files_give_tensors_or_an_error_in_one_line(
    name: str, tensors: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    path = tmp_path / name
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path, _use_new_zipfile_serialization=name == "a.pth")
    whole, rng, num_refused = path.read_bytes(), np.random.default_rng(0), 0
    for number in range(200):
        data = bytearray(whole)
        for position in rng.integers(0, min(len(data), 1000), rng.integers(1, 6)):
            data[position] = rng.integers(256)
        path.write_bytes(data[: rng.integers(len(data))] if number % 5 == 0 else data)
        try:
            assert all(isinstance(value, torch.Tensor) for value in weights.load_tensors(path).values())
        except WeightsIntegrityError as error:
            assert str(error).startswith(f"{path}: expected") and "\n" not in str(error)
            num_refused += 1
    assert num_refused > 50


def test_a_signal_while_a_file_is_read_is_no_damage(tmp_path: Path) -> None:
    """Between safetensors and PyTorch, C code drops exceptions, and then cannot read the tensor."""
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.ones(2)}, path)
    load = partial(weights.load_tensors, path)
    assert signal_at_every_instruction(signal.SIGTERM, load, lambda: None) > 50
