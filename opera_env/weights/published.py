"""Weight files that their authors publish without a hash: fetched or taken from a folder, and checked.

The hash of such a file is recorded when the file is first accepted, and checked ever after. Whether a file
holds the network that it should is decided by a check that the caller passes.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from opera_env.errors import DownloadError, MissingWeightsError, WeightsIntegrityError
from opera_env.files import file_sha256
from opera_env.weights.connection import DownloadLimits
from opera_env.weights.files import cache_dir
from opera_env.weights.http import console, download, written_atomically

AMBIGUOUS_NAME = "net_g_latest.pth"
"""What training programs call their last checkpoint, whatever the network was trained for."""

_MAX_DEPTH = 4
"""Folders below the given one that are searched."""

_MEGABYTE = 10**6


@dataclass(frozen=True)
class PublishedFile:
    """A weight file of a published network.

    Attributes:
        name: Name for ``opera-env weights fetch``: that of the tool that uses it.
        filename: Name of the file at its publisher and in the cache.
        urls: Addresses of the file; empty if it can be downloaded by hand only.
        page: Where its authors publish it.
        licence: The licence that they state.
        megabytes: Size of the file, approximately.
        aliases: Other names of the same file.
        task: Word in the name of a folder that tells what :data:`AMBIGUOUS_NAME` in it was trained for; ""
            if no such file is taken.
        sha256: SHA-256 that the publisher states; "" if there is none.
    """

    name: str
    filename: str
    urls: tuple[str, ...]
    page: str
    licence: str
    megabytes: int
    aliases: tuple[str, ...] = ()
    task: str = ""
    sha256: str = ""

    @property
    def path(self) -> Path:
        """Path of the file on this machine, whether or not it exists."""
        return cache_dir() / "paper" / self.filename

    @property
    def description(self) -> str:
        """One line for ``opera-env weights list``."""
        return f"{self.filename}, about {self.megabytes} MB; {self.licence}; {self.page}"

    @property
    def record(self) -> Path:
        """Path of the recorded hash, in the format of ``sha256sum``."""
        return self.path.with_name(f"{self.filename}.sha256")

    def expected_sha256(self) -> str:
        """Returns the hash of the publisher, or the recorded one; "" if there is neither."""
        if self.sha256 or not self.record.is_file():
            return self.sha256
        return self.record.read_text(errors="replace").split(" ")[0].strip()


Check = Callable[[PublishedFile, Path], None]
"""Raises ``WeightsIntegrityError`` unless the file at a path holds the network that it should."""


def require_published(file: PublishedFile) -> Path:
    """Returns the path of a file after comparing its hash with the expected one, if there is one.

    Raises:
        MissingWeightsError: If the file is not on this machine.
        WeightsIntegrityError: If its hash is not the expected one.
    """
    if not file.path.is_file():
        raise MissingWeightsError(file.name, file.path, f"opera-env weights fetch {file.name}")
    _compare_hash(file, file.path)
    return file.path


def published_status(file: PublishedFile) -> Literal["present", "missing", "damaged"]:
    """Returns the state of a file; reads the whole file if a hash is expected."""
    try:
        require_published(file)
    except MissingWeightsError:
        return "missing"
    except WeightsIntegrityError:
        return "damaged"
    return "present"


def record_hash(file: PublishedFile) -> None:
    """Records the hash of a file that has been accepted, unless one is expected already.

    A folder that cannot be written to, such as a shared cache, is left as it is.

    Raises:
        DownloadError: If the record cannot be written.
    """
    if file.expected_sha256() or not os.access(file.path.parent, os.W_OK):
        return
    with written_atomically(file.record) as part:
        part.write_text(f"{file_sha256(file.path)}  {file.filename}\n")


def _compare_hash(file: PublishedFile, path: Path) -> None:
    expected = file.expected_sha256()
    if not expected or (found := file_sha256(path)).startswith(expected):
        return
    origin = "of the publisher" if file.sha256 else "recorded when it was first accepted"
    remedy = f"opera-env weights fetch {file.name} --force gets it again" + (
        "" if file.sha256 else f"; if its authors replaced it, delete {file.record} first"
    )
    raise WeightsIntegrityError(path, f"sha256 {expected} ({origin})", found, remedy)


def check_free_space(files: Iterable[PublishedFile]) -> None:
    """Checks that files fit on the disk of the cache, before the first of them is fetched.

    Raises:
        DownloadError: If they do not.
    """
    needed = sum(file.megabytes for file in files)
    folder = cache_dir()
    existing = next(parent for parent in (folder, *folder.parents) if parent.is_dir())
    free = shutil.disk_usage(existing).free // _MEGABYTE
    if needed > free:
        raise DownloadError(
            f"{needed:,} MB are needed in {folder}, {free:,} MB are free: make room, or choose another "
            "folder with OPERA_ENV_CACHE."
        )


def fetch_published(file: PublishedFile, check: Check, folder: Path | None = None) -> Path:
    """Downloads a file, or copies it from a folder, checks it, and records its hash.

    Args:
        file: The file.
        check: Decides whether what was found is the right file.
        folder: Where to look for it; None to download it.

    Returns:
        The path of the file.

    Raises:
        DownloadError: If no address or no file of the folder has it; the message has the reasons.
    """

    def accept(path: Path) -> None:
        _compare_hash(file, path)
        check(file, path)

    if folder is not None:
        _copy(file, folder, accept)
    elif file.urls:
        limits = DownloadLimits(max_bytes=2 * file.megabytes * _MEGABYTE)
        download(file.urls, file.path, file.sha256 or None, limits=limits, check=accept)
    else:
        raise DownloadError(
            f"{file.filename} ({file.name}) has no address for programs: download it by hand from "
            f"{file.page}, then run: opera-env weights fetch paper --from FOLDER"
        )
    record_hash(file)
    return file.path


def _copy(file: PublishedFile, folder: Path, accept: Callable[[Path], None]) -> None:
    found = list(candidates(file, folder))
    if not found:
        names = ", ".join((file.filename, *file.aliases))
        in_folder = f", or {AMBIGUOUS_NAME} in a folder with {file.task!r} in its name" if file.task else ""
        raise DownloadError(f"{file.name}: expected {names}{in_folder} in {folder}, found none of them.")
    if len({file_sha256(path) for path in found}) > 1:
        paths = ", ".join(str(path) for path in found)
        raise DownloadError(
            f"{file.name}: expected one file, found different ones: {paths}: remove others."
        )
    console.print(f"{file.filename}: from {found[0]}")
    try:
        accept(found[0])
    except WeightsIntegrityError as error:
        raise DownloadError(f"{file.name}: {error}") from error
    with written_atomically(file.path) as part:
        shutil.copyfile(found[0], part)


def candidates(file: PublishedFile, folder: Path) -> Iterator[Path]:
    """Finds files under any of the known names of a file, in a folder and the folders below it."""
    for parent, folders, names in os.walk(folder):
        parts = Path(parent).relative_to(folder).parts
        if len(parts) >= _MAX_DEPTH:
            folders.clear()
        folders.sort()
        for name in sorted(names):
            is_for_task = file.task and any(file.task in part.lower() for part in (folder.name, *parts))
            if name in (file.filename, *file.aliases) or (name == AMBIGUOUS_NAME and is_for_task):
                yield Path(parent, name)
