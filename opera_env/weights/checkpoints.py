"""Checkpoints of training runs, and half-precision files of trained weights; written atomically."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from opera_env.files import atomic_write
from opera_env.weights.tensors import load_tensors


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Writes a checkpoint; a process that is killed meanwhile leaves the previous one intact.

    Args:
        path: The file; its folder is created if it is absent.
        state: State dicts, numbers and strings: whatever ``torch.load(weights_only=True)`` reads.
    """
    with atomic_write(path) as part:
        torch.save(dict(state), part)


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict[str, Any] | None:
    """Reads what :func:`save_checkpoint` wrote, without running code from the file.

    Args:
        path: The file.
        device: Device of the tensors.

    Returns:
        The state, or None if there is no such file, which means that the run is new.
    """
    if not path.is_file():
        return None
    return torch.load(path, map_location=device, weights_only=True)


def save_half(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Writes named tensors as float16 safetensors.

    Args:
        tensors: For example a state dict, on any device.
        path: The file; its folder is created if it is absent.
        metadata: Strings that are kept in the file's header.
    """
    half = {name: tensor.detach().cpu().half().contiguous() for name, tensor in tensors.items()}
    with atomic_write(path) as part:
        save_file(half, part, metadata=None if metadata is None else dict(metadata))


def load_as_float32(path: Path) -> dict[str, Tensor]:
    """Reads a file of named tensors, for example one that :func:`save_half` wrote, as float32 on the CPU.

    Raises:
        WeightsIntegrityError: If the file cannot be read, or holds anything but named tensors.
    """
    return {name: tensor.float() for name, tensor in load_tensors(path).items()}
