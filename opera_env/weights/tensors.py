"""Reading files of named tensors without running code from them, and hashes of tensors and files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from textwrap import shorten
from typing import Any

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
    tensors = _read(path)
    if not _are_tensors(tensors):
        raise WeightsIntegrityError(path, "a file of tensors", "one that holds something else")
    return dict(tensors)


def load_checkpoint_tensors(path: Path) -> dict[str, Tensor]:
    """Reads the weights of a checkpoint as training programs write it, without running code from it.

    Weights may lie under one of their usual keys, such as ``params`` or ``state_dict``; averaged ones are
    preferred. A prefix of wrappers, such as ``module.``, is removed from all names.

    Args:
        path: A file, as for :func:`load_tensors`.

    Raises:
        WeightsIntegrityError: If the file cannot be read, or holds no named tensors.
    """
    content = _read(path)
    for _ in range(_MAX_NESTING):
        if not isinstance(content, Mapping) or (content and _are_tensors(content)):
            break
        nested = next((content[key] for key in _NESTED_KEYS if isinstance(content.get(key), Mapping)), None)
        if nested is None:
            keys = ", ".join(repr(key) for key in list(content)[:8])
            found = f"none, but {keys or 'nothing'}"
            expected = f"named tensors, or one of the keys {', '.join(_NESTED_KEYS)}"
            raise WeightsIntegrityError(path, expected, found)
        content = nested
    if not _are_tensors(content) or not content:
        raise WeightsIntegrityError(path, "named tensors", f"an object of type {type(content).__name__}")
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in content):
            content = {name.removeprefix(prefix): value for name, value in content.items()}
    return dict(content)


_NESTED_KEYS = ("params_ema", "params", "state_dict", "net_g", "model")
_MAX_NESTING = 4
_PREFIXES = ("module.", "net_g.", "net.")


def _read(path: Path) -> Any:
    """Reads a file that holds tensors: whatever ``torch.load(weights_only=True)`` returns.

    Raises:
        WeightsIntegrityError: If it cannot be read.
    """
    try:
        if path.suffix == ".safetensors":
            tensor_shapes(path)
            with SignalsWait():  # safetensors would raise an error of the file in place of their exception
                return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except (WeightsIntegrityError, FileNotFoundError, MemoryError):
        raise
    except Exception as error:  # torch raises errors of many classes for damaged files
        reason = shorten(f"{type(error).__name__}: {error_message(error)}", 300)
        raise WeightsIntegrityError(path, "a file of tensors", f"an unreadable one ({reason})") from error


def _are_tensors(content: Any) -> bool:
    return isinstance(content, Mapping) and all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    )


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Returns the SHA-256 of names, types, shapes and values, which does not depend on the file format."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
