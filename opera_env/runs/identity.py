"""What a run was given, by content: a resumed run must get the same, wherever it lies by then.

An identity is a name for people and a digest of the content. Two inputs are the same if their contents are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from opera_env.data.images import list_images
from opera_env.files import file_sha256

Identity = dict[str, str]
"""``{"name": ..., "content": ...}``, as it is stored in a run's settings."""

_SAMPLED_BYTES = 2**16
"""Bytes at the beginning and at the end of an image file that are part of its folder's content."""

_DIGITS = 16
"""Hexadecimal digits that are kept of a SHA-256."""


def folder_name(*folders: Path) -> str:
    """Returns the last two parts of the path of each folder, which name a data set on any machine.

    Example:
        >>> folder_name(Path("/data/bsds500/train"))
        'bsds500/train'
    """
    return " ".join(f"{folder.parent.name}/{folder.name}" for folder in map(Path.resolve, folders))


def identify_images(*folders: Path) -> Identity:
    """Returns the identity of a folder of images, or of several in order.

    Its content is the SHA-256 of the name, the size, the first and the last 64 KiB of each image. That is
    all of most photographs of data sets, and takes milliseconds per image for others; a change in the
    middle of a large file that leaves its size as it was goes unnoticed.

    Args:
        *folders: The folders; other files than images, and subfolders, are not part of them.

    Raises:
        SampleError: If a folder does not exist or holds no image.
    """
    digest = hashlib.sha256()
    for path in (path for folder in folders for path in list_images(folder)):
        size = path.stat().st_size
        digest.update(f"{path.name}\0{size}\0".encode())
        with path.open("rb") as file:
            digest.update(file.read(_SAMPLED_BYTES))
            file.seek(max(_SAMPLED_BYTES, size - _SAMPLED_BYTES))
            digest.update(file.read(_SAMPLED_BYTES))
    return {"name": folder_name(*folders), "content": digest.hexdigest()[:_DIGITS]}


def identify_file(path: Path | None) -> Identity | None:
    """Returns the identity of a file by its SHA-256, or None for no file.

    Raises:
        FileNotFoundError: If there is no such file.
    """
    return None if path is None else {"name": path.name, "content": file_sha256(path)[:_DIGITS]}


def identify_weights(folder: Path) -> Identity:
    """Returns the identity of a folder of weights: of all safetensors files in it.

    Args:
        folder: Folder of a trained agent or model; other files than weights are not part of it.
    """
    paths = sorted(folder.glob("*.safetensors"))
    return {"name": folder_name(folder), "content": _digest_of_files(paths)}


def identify_toolbox(name: str, fingerprint: str) -> Identity:
    """Returns the identity of a toolbox.

    Args:
        name: Name of a shipped toolbox, or a folder.
        fingerprint: Fingerprint of the toolbox.
    """
    return {"name": folder_name(Path(name)) if "/" in name else name, "content": fingerprint}


def identify_agent(name: str) -> Identity | str:
    """Returns the identity of an agent, or its name alone if it is not loaded from a file or folder.

    Args:
        name: ``kind``, ``kind:path`` or ``module:attribute``.
    """
    kind, _, path = name.partition(":")
    if path and Path(path).is_dir():
        identity = identify_weights(Path(path))
    elif path and Path(path).is_file():
        identity = {"name": Path(path).name, "content": file_sha256(Path(path))[:_DIGITS]}
    else:
        return name
    return {**identity, "name": f"{kind}:{identity['name']}"}


def _digest_of_files(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.name}\0{file_sha256(path)}\0".encode())
    return digest.hexdigest()[:_DIGITS]
