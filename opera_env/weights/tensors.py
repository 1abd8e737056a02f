"""Reading files of named tensors without running code from them, and hashes of tensors and files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from textwrap import shorten

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from opera_env.errors import WeightsIntegrityError, error_message
from opera_env.signal_handlers import SignalsWait

MAX_HEADER_BYTES = 4 * 2**20
"""Largest header of a safetensors file that is read: room for some 40,000 tensors."""


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Reads the names and shapes of the tensors of a safetensors file, without its values.

    Raises:
        WeightsIntegrityError: If the file cannot be read, or its header is too large or malformed.
    """
    try:
        with path.open("rb") as file:
            header_bytes = int.from_bytes(file.read(8), "little")
        if header_bytes > MAX_HEADER_BYTES:
            raise WeightsIntegrityError(
                path, "a file of tensors", f"a header that claims {header_bytes:,} bytes"
            )
        with safe_open(path, "pt") as tensors:
            return {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise WeightsIntegrityError(path, "a file of tensors", f"an unreadable one ({error})") from error


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
            tensor_shapes(path)
            with SignalsWait():  # safetensors would raise an error of the file in place of their exception
                return load_file(path)
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except (WeightsIntegrityError, FileNotFoundError, MemoryError):
        raise
    except Exception as error:  # torch raises errors of many classes for damaged files
        reason = shorten(f"{type(error).__name__}: {error_message(error)}", 300)
        raise WeightsIntegrityError(path, "a file of tensors", f"an unreadable one ({reason})") from error
    if not isinstance(tensors, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in tensors.items()
    ):
        raise WeightsIntegrityError(path, "a file of tensors", "one that holds something else")
    return dict(tensors)


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Returns the SHA-256 of names, types, shapes and values, which does not depend on the file format."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
