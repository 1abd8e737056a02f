"""Atomic writing: a file is complete or absent, and none is overwritten by accident; hashes of files.

This holds after a power loss too: the content is on the disk before the file gets its name.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from opera_env.leftovers import make_part_name

_UNSUPPORTED = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)
"""Errors of file systems that cannot write a folder to the disk on request."""


@contextmanager
def atomic_write(target: Path) -> Iterator[Path]:
    """Yields a temporary path beside ``target``, which replaces ``target`` unless an error is raised."""
    with _temporary_file(target) as part:
        yield part
        _write_to_disk(part)
        os.replace(part, target)
        _write_folder_to_disk(target.parent)


@contextmanager
def atomic_create(target: Path) -> Iterator[Path]:
    """Like :func:`atomic_write`, but never replaces a file.

    Raises:
        FileExistsError: If ``target`` exists, even if another process has just created it.
    """
    with _temporary_file(target) as part:
        yield part
        _write_to_disk(part)
        try:
            os.link(part, target)  # unlike a rename, this fails if the name is taken
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            _rename_without_replacing(part, target)
        _write_folder_to_disk(target.parent)


def _rename_without_replacing(part: Path, target: Path) -> None:
    target.touch(exist_ok=False)  # checks and takes the name in one step
    try:
        os.replace(part, target)
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def _write_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_folder_to_disk(folder: Path) -> None:
    """Makes the names of the files in a folder survive a power loss, where the file system can do so."""
    try:
        _write_to_disk(folder)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise


@contextmanager
def _temporary_file(target: Path) -> Iterator[Path]:
    """Yields a hidden path in the folder of the target; a file that remains there is removed."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError:  # its message would say that the target itself exists
        raise NotADirectoryError(f"{target.parent}: not a folder") from None
    part = target.with_name(make_part_name())
    try:
        yield part
    except OSError as error:  # an error of write(), such as a full disk, names no file
        names_part = error.filename2 is None and error.filename in (None, part, str(part))
        if error.errno is not None and names_part:
            error.filename = str(target)
        raise
    finally:
        part.unlink(missing_ok=True)


def file_sha256(path: Path) -> str:
    """Returns the SHA-256 of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_text(text: str) -> str:
    """Returns a digest of a text: the first 16 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
