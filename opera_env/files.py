"""Writing files so that nothing is ever half there, and nothing is overwritten by accident."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4


@contextmanager
def atomic_write(target: Path) -> Iterator[Path]:
    """Yields a path beside ``target`` to write to; it takes its place if all goes well."""
    with _temporary_file(target) as part:
        yield part
        os.replace(part, target)


@contextmanager
def atomic_create(target: Path) -> Iterator[Path]:
    """Like :func:`atomic_write`, but never takes the place of a file.

    Raises:
        FileExistsError: If something has the name already, be it since a moment ago.
    """
    with _temporary_file(target) as part:
        yield part
        try:
            os.link(part, target)  # unlike a rename, fails if the name is taken
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            _rename_without_replacing(part, target)


def _rename_without_replacing(part: Path, target: Path) -> None:
    target.touch(exist_ok=False)  # takes the name, in one step with the check whether it is free
    try:
        os.replace(part, target)
    except BaseException:
        target.unlink(missing_ok=True)
        raise


@contextmanager
def _temporary_file(target: Path) -> Iterator[Path]:
    """Yields a hidden name in the target's folder; what is left of it in the end is removed."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError:  # which would read as if the target itself were there
        raise NotADirectoryError(f"{target.parent}: not a folder") from None
    part = target.with_name(f".{uuid4().hex}.part")
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)
