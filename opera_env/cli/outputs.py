"""What commands write: files that are checked first and never replaced by accident, and progress bars."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from opera_env.console import Console
from opera_env.errors import OutputError
from opera_env.files import atomic_create, atomic_write


def check_outputs(paths: Mapping[str, Path | None], force: bool) -> None:
    """Checks that files can be written, so that no result is lost after minutes of computing.

    Args:
        paths: The files by the option that names them; None for one that was not asked for.
        force: Whether existing files are replaced.

    Raises:
        OutputError: If a path is a folder, exists already, cannot be written, or is named twice.
    """
    seen: dict[Path, str] = {}
    for option, path in paths.items():
        if path is None:
            continue
        if path.is_dir():
            raise OutputError(f"{option} {path} is a folder: expected the name of a file.")
        if os.path.lexists(path) and not force:
            raise OutputError(f"{option} {path} exists: choose another name, or replace it with --force.")
        target = Path(os.path.abspath(path))
        if target in seen:
            raise OutputError(
                f"{seen[target]} and {option} name the same file, {path}: rename one of them."
            )
        seen[target] = option
        folder = next(parent for parent in target.parents if os.path.lexists(parent))
        if not folder.is_dir():
            raise OutputError(f"{option} {path} cannot be written: {folder} is not a folder.")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise OutputError(f"{option} {path} cannot be written: permission denied for {folder}.")


@contextmanager
def write_output(path: Path, force: bool) -> Iterator[Path]:
    """Yields a temporary path, which becomes the file of a result.

    Args:
        path: The file.
        force: Whether an existing file is replaced.

    Raises:
        OutputError: If the file has come into being since it was checked.
    """
    try:
        with atomic_write(path) if force else atomic_create(path) as part:
            yield part
    except FileExistsError as error:
        raise OutputError(
            f"{path} exists by now: choose another name, or replace it with --force."
        ) from error


def progress_bars() -> Progress:
    """Returns progress bars with an estimate of the time that remains."""
    columns = (
        TextColumn("{task.description:>18}", table_column=Column(overflow="fold")),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True))
