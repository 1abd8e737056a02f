"""Checkpoints of training runs, and half-precision files of trained weights; written atomically."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from opera_env.errors import RunError, WeightsIntegrityError, error_message
from opera_env.files import atomic_write
from opera_env.signal_handlers import SignalsWait
from opera_env.weights.tensors import load_tensors, tensors_sha256

_DIGEST_KEY = "sha256"
"""Key of the digest of all tensors, in the metadata of a file of weights."""

_DIGEST_DIGITS = 64
_CHUNK_BYTES = 2**20

# The last record of a ZIP archive ends with the length of the archive's comment, and the comment itself.
_END_OF_ARCHIVE, _END_OF_ARCHIVE_BYTES = b"PK\x05\x06", 22
_NO_COMMENT = (0).to_bytes(2, "little")
_COMMENT_LENGTH = _DIGEST_DIGITS.to_bytes(2, "little")


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Writes a checkpoint and keeps the previous one beside it.

    A process that is killed meanwhile, or a full disk, leaves the checkpoints as they are.

    Args:
        path: The file; its folder is created if it is absent.
        state: State dicts, numbers and strings: whatever ``torch.load(weights_only=True)`` reads.

    Raises:
        OSError: If the file cannot be written.
    """
    with atomic_write(path) as part:
        with part.open("w+b") as file:
            _write_archive(dict(state), file)
        if path.is_file():
            path.replace(previous_checkpoint(path))


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict[str, Any] | None:
    """Reads what :func:`save_checkpoint` wrote, without running code from the file.

    Its digest is checked. In place of a damaged or absent checkpoint the previous one is read, with a
    notice: a run that resumes from it ends as it would have from the last one.

    Args:
        path: The file.
        device: Device of the tensors.

    Returns:
        The state, or None if there is no such file and no previous one, which means that the run is new.

    Raises:
        RunError: If all files that there are are damaged.
    """
    damages: dict[str, str] = {}
    for file in (path, previous_checkpoint(path)):
        if not file.is_file():
            continue
        try:
            state = _read_archive(file, device)
        except (ValueError, RuntimeError, pickle.UnpicklingError, EOFError) as error:
            damages[str(file)] = error_message(error)
            continue
        for damaged, reason in damages.items():
            print(f"{damaged} is damaged ({reason}): resuming from the previous checkpoint, {file.name}")
        return state
    if damages:
        reasons = "; ".join(f"{damaged}: expected a checkpoint, {why}" for damaged, why in damages.items())
        raise RunError(f"{reasons}. Delete {' and '.join(damages)} to train again from the beginning.")
    return None


def previous_checkpoint(path: Path) -> Path:
    """Returns where the checkpoint before the one at ``path`` is kept.

    Example:
        >>> previous_checkpoint(Path("checkpoint.pt")).name
        'checkpoint.previous.pt'
    """
    return path.with_suffix(f".previous{path.suffix}")


def save_half(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Writes named tensors as float16 safetensors, with a digest that reading them checks.

    Args:
        tensors: For example a state dict, on any device.
        path: The file; its folder is created if it is absent.
        metadata: Strings that are kept in the file's header.
    """
    half = {name: tensor.detach().cpu().half().contiguous() for name, tensor in tensors.items()}
    with atomic_write(path) as part:
        # save_file would make the file unreadable for other users, and hide why it cannot be written.
        part.write_bytes(save(half, {**(metadata or {}), _DIGEST_KEY: tensors_sha256(half)}))


def load_as_float32(path: Path) -> dict[str, Tensor]:
    """Reads a file of named tensors, for example one that :func:`save_half` wrote, as float32 on the CPU.

    Raises:
        WeightsIntegrityError: If the file cannot be read, holds anything but named tensors, or holds other
            tensors than were written.
    """
    tensors = load_tensors(path)
    if path.suffix == ".safetensors":
        with safe_open(path, "pt") as file:
            expected = (file.metadata() or {}).get(_DIGEST_KEY)
        if expected is not None and (found := tensors_sha256(tensors)) != expected:
            raise WeightsIntegrityError(path, f"sha256 {expected}", found)
    return {name: tensor.float() for name, tensor in tensors.items()}


class _HashedFile:
    """A file that is written to, with the digest of its content and the error that ended the writing.

    When a file cannot be written, torch raises an error of its own in place of that of the system.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.digest = hashlib.sha256()
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self.file.flush()


def _write_archive(state: dict[str, Any], file: IO[bytes]) -> None:
    """Writes the ZIP archive of ``torch.save``, whose comment becomes the SHA-256 of all before it."""
    hashed = _HashedFile(file)
    try:
        with SignalsWait():  # torch would raise an error of its own in place of their exception
            torch.save(state, hashed)  # pyright: ignore[reportArgumentType] - it only writes and flushes
    except RuntimeError as error:
        raise hashed.error or error from error
    file.seek(-2, os.SEEK_END)
    file.write(_COMMENT_LENGTH + hashed.digest.hexdigest().encode())


def _read_archive(path: Path, device: torch.device | str) -> dict[str, Any]:
    if (reason := _find_damage(path)) is not None:
        raise ValueError(reason)
    state = torch.load(path, map_location=device, weights_only=True)
    if not isinstance(state, dict):
        raise ValueError(f"it holds {type(state).__name__} instead of a dictionary")
    return state


def _find_damage(path: Path) -> str | None:
    """Compares a file with the digest in its comment; a file of plain ``torch.save`` has none."""
    content_size = path.stat().st_size - len(_COMMENT_LENGTH) - _DIGEST_DIGITS
    digest = hashlib.sha256()
    with path.open("rb") as file:
        if content_size < 0:
            return "it is too short"
        while chunk := file.read(min(_CHUNK_BYTES, content_size - file.tell())):
            digest.update(chunk)
        end = file.read()
    if end[-_END_OF_ARCHIVE_BYTES:].startswith(_END_OF_ARCHIVE) and end.endswith(_NO_COMMENT):
        return None
    digest.update(_NO_COMMENT)
    if end != _COMMENT_LENGTH + digest.hexdigest().encode():
        return "its content does not have the digest at its end"
    return None
