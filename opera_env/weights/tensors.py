"""Reading files of named tensors without running code from them, and hashes of tensors and files."""

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
    """Reads a file of named tensors to the CPU, without running code from it.

    Args:
        path: A ``.safetensors`` file, or a file that ``torch.save`` has written.

    Returns:
        The tensors, by name.

    Raises:
        WeightsIntegrityError: If the file cannot be read, or holds anything but named tensors.
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
    """Returns the SHA-256 of names, types, shapes and values, which does not depend on the file format."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """Returns the SHA-256 of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
