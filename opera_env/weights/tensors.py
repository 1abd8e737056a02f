"""Reading files of named tensors without running code from them, and their digests."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from opera_env.errors import WeightsIntegrityError


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Reads a file of named tensors onto the CPU without running code from it.

    Args:
        path: A ``.safetensors`` file, or what ``torch.save`` wrote.

    Raises:
        WeightsIntegrityError: If it cannot be read, or holds something else than tensors.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise WeightsIntegrityError(path, "of a file of tensors", f"an unreadable one ({error})") from error
    if not isinstance(tensors, Mapping) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise WeightsIntegrityError(path, "of a file of tensors", "one that holds something else")
    return dict(tensors)


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Returns the sha256 of names, types, shapes and values, whatever file holds them."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """Returns the sha256 of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
