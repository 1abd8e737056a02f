"""Temporary files that a killed process has left: their names say which process wrote them."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from uuid import uuid4

import psutil

PART_SUFFIX = ".part"
"""Suffix of a file that is being written."""

CLAIM_SUFFIX = ".claim"
"""Suffix of a lock file that says that a process is working on a result."""

_PART_NAME = re.compile(r"\.(?:(?P<machine>[0-9a-f]{8})-(?P<process>\d{1,10})-)?[0-9a-f]{32}\.part")
"""Names of temporary files; those of earlier versions do not tell the process."""

_CLAIM_NAME = re.compile(r"\.[0-9a-f]{32}\.claim")

_OLD_SECONDS = 24 * 3600
"""Age from which a temporary file is not in use any more, whichever machine has written it."""


def make_part_name() -> str:
    """Returns a new name of a hidden temporary file, which tells the machine and the process."""
    return f".{_machine()}-{os.getpid()}-{uuid4().hex}{PART_SUFFIX}"


def make_claim_name(name: str) -> str:
    """Returns the name of the lock file of a result.

    Args:
        name: Name of the result's file.
    """
    return f".{hashlib.sha256(os.fsencode(name)).hexdigest()[:32]}{CLAIM_SUFFIX}"


def remove_leftovers(folder: Path) -> None:
    """Removes temporary files of this package from a folder, if their process has ended.

    A file is removed if a process of this machine that does not exist any more has written it, or if it is
    over a day old. A file that cannot be removed stays.

    Args:
        folder: The folder, which may be absent; its subfolders are not searched.
    """
    with suppress(FileNotFoundError, NotADirectoryError, PermissionError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):  # another process may remove it, or it may belong to another user
                if _is_leftover(entry):
                    os.unlink(entry.path)


def _is_leftover(entry: os.DirEntry[str]) -> bool:
    part, claim = _PART_NAME.fullmatch(entry.name), _CLAIM_NAME.fullmatch(entry.name)
    if (part is None and claim is None) or not entry.is_file(follow_symlinks=False):
        return False
    if part is not None and part["machine"] == _machine():
        return not psutil.pid_exists(int(part["process"]))
    return time.time() - entry.stat(follow_symlinks=False).st_mtime > _OLD_SECONDS


@cache
def _machine() -> str:
    """Returns a digest of this machine, its start and its container: where process ids are unique."""
    identity = [platform.node()]
    with suppress(OSError):  # both exist on Linux only
        identity.append(Path("/proc/sys/kernel/random/boot_id").read_text())
        identity.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("\n".join(identity).encode()).hexdigest()[:8]
