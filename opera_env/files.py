"""Writing files atomically: a file is complete or absent, and none is overwritten by accident."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4


@contextmanager
def atomic_write(target: Path) -> Iterator[Path]:
    """Yields a temporary path beside ``target``, which replaces ``target`` unless an error is raised."""
    with _temporary_file(target) as part:
        yield part
        os.replace(part, target)


@contextmanager
def atomic_create(target: Path) -> Iterator[Path]:
    """Like :func:`atomic_write`, but never replaces a file.

    Raises:
        FileExistsError: If ``target`` exists, even if another process has just created it.
    """
    with _temporary_file(target) as part:
        yield part
        try:
            os.link(part, target)  # unlike a rename, this fails if the name is taken
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            _rename_without_replacing(part, target)


def _rename_without_replacing(part: Path, target: Path) -> None:
    target.touch(exist_ok=False)  # checks and takes the name in one step
    try:
        os.replace(part, target)
    except BaseException:
        target.unlink(missing_ok=True)
        raise


@contextmanager
def _temporary_file(target: Path) -> Iterator[Path]:
    """Yields a hidden path in the folder of the target; a file that remains there is removed."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError:  # its message would say that the target itself exists
        raise NotADirectoryError(f"{target.parent}: not a folder") from None
    part = target.with_name(f".{uuid4().hex}.part")
    try:
        yield part
    except OSError as error:  # an error of write(), such as a full disk, names no file
        names_part = error.filename2 is None and error.filename in (None, part, str(part))
        if error.errno is not None and names_part:
            error.filename = str(target)
        raise
    finally:
        part.unlink(missing_ok=True)
