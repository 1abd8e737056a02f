"""Results that exist already, that another process is making, or that have been lost since."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from opera_env.cli.jobs import RestoreJob
from opera_env.cli.restore_report import WRITTEN
from opera_env.data.read import read_size
from opera_env.errors import ImageFileError, OutputError
from opera_env.leftovers import make_claim_name, remove_leftovers

_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)
"""Errors of file systems that have no locks."""

REMOVED = "was written, but is gone: it or its folder was removed during the run"


def remove_all_leftovers(jobs: Sequence[RestoreJob]) -> None:
    """Removes temporary files of killed processes from all folders of results."""
    for folder in dict.fromkeys(job.output_path.parent for job in jobs):
        remove_leftovers(folder)


def has_result(job: RestoreJob, scale: int) -> bool:
    """Returns whether the result of a photograph exists, as far as the headers of both files tell.

    An empty file, which a power loss can leave, is no result and is removed.

    Args:
        job: The photograph.
        scale: Side of the result divided by the side of the photograph.

    Raises:
        OutputError: If the file of that name is not an image, or if it has another size.
    """
    path = job.output_path
    if not path.is_file():
        return False
    if path.stat().st_size == 0:
        path.unlink()
        return False
    try:
        found = read_size(path)
    except ImageFileError as error:
        raise OutputError(f"{error}: delete it, or replace it with --force") from error
    height, width = read_size(job.input_path)
    # Sizes are compared without their order, because results are upright and photographs may not be.
    if sorted(found) != sorted((height * scale, width * scale)):
        raise OutputError(
            f"{path} exists and has {found[1]} x {found[0]} pixels, expected {width * scale} x "
            f"{height * scale}: it is another result; replace it with --force, or name another folder"
        )
    return True


def has_claim(job: RestoreJob) -> bool:
    """Returns whether the result of a photograph is claimed, or was by a process that has been killed."""
    return _claim_path(job).exists()


@contextmanager
def claim_result(job: RestoreJob) -> Iterator[bool]:
    """Yields whether this process may make a result, which is False if another one is making it.

    Several processes can then share the photographs of one command. The claim ends with the process; the
    file of a claim whose process was killed is removed. Where the file system has no locks, every process
    may make every result.

    Signals have to wait (:class:`opera_env.signal_handlers.SignalsWait`), because one between the making of
    the file and the statement that removes it would leave it.

    Args:
        job: The photograph.
    """
    path = _claim_path(job)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    try:
        yield True
    finally:
        path.unlink(missing_ok=True)  # before others can take the lock
        lock.release()


def _claim_path(job: RestoreJob) -> Path:
    return job.output_path.with_name(make_claim_name(job.output_path.name))


def mark_removed(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Marks records as failed whose result has been removed since it was written, and returns these.

    Args:
        records: Records of photographs, which are changed.
    """
    removed = [
        record
        for record in records
        if record["status"] in WRITTEN and not os.path.lexists(record["output"])
    ]
    for record in removed:
        record |= {"status": "failed", "error": f"{record['input']}: {record['output']} {REMOVED}"}
    return removed
