"""Downloading a file from the first address that has it, within limits, with a check of its hash."""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from http.client import HTTPException, HTTPResponse, IncompleteRead
from pathlib import Path
from urllib.error import HTTPError, URLError

from rich.progress import wrap_file

from opera_env.console import Console, escape_controls
from opera_env.errors import DownloadError, WeightsIntegrityError, error_message
from opera_env.files import atomic_write, file_sha256
from opera_env.leftovers import remove_leftovers
from opera_env.weights.connection import DownloadLimits, open_address

_ATTEMPTS = 3
"""How often an address is asked for the rest of a file after the connection was cut."""

_CHUNK_BYTES = 1 << 18

_MAX_REASON = 300
"""Longest text of a server, in characters, that a message repeats."""

console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
"""Console for the progress of downloads: standard error."""


class _TransferError(Exception):
    """An address does not have the file, or what it sends is refused. The next address may have it."""


class _CutError(_TransferError):
    """The connection ended before the file did."""


def download(
    urls: Sequence[str],
    target: Path,
    sha256: str | None,
    *,
    limits: DownloadLimits | None = None,
    check: Callable[[Path], None] | None = None,
) -> Path:
    """Downloads a file atomically: it appears at its path complete and checked, or not at all.

    Args:
        urls: Addresses, tried in order: https, or http on this machine.
        target: Path of the file.
        sha256: SHA-256 of the file, or at least its first 8 digits; None if it is not known.
        limits: Limits of size and time.
        check: Called with the path of the downloaded file before it gets its name; raises
            ``WeightsIntegrityError`` if the file is not the right one.

    Returns:
        ``target``.

    Raises:
        DownloadError: If no address has the file, with the addresses and their errors; or if the file
            cannot be written, with the folder and the space on its disk.
        ValueError: If ``sha256`` has fewer than 8 digits, or there is neither a hash nor a check.
    """
    if sha256 is None and check is None:
        raise ValueError(f"{target.name}: expected a sha256 or a check, found neither.")
    if sha256 is not None and len(sha256) < 8:
        raise ValueError(f"{target.name}: expected at least 8 digits of its sha256, found {sha256!r}.")
    failures: list[str] = []
    for url in urls:
        console.print(f"{target.name}: from {url}")
        try:
            with written_atomically(target) as part:
                _transfer(url, part, limits or DownloadLimits())
                _check_content(part, sha256, check)
            return target
        except _TransferError as error:
            failures.append(f"{url}: {error}")
    raise DownloadError(
        f"{target.name} cannot be downloaded: {'; '.join(failures)}. Check the network and its proxy, or "
        f"get the file elsewhere and put it at {target}; it is checked before it is used."
    )


@contextmanager
def written_atomically(target: Path) -> Iterator[Path]:
    """Yields a temporary path as :func:`opera_env.files.atomic_write` does.

    Raises:
        DownloadError: If the file cannot be written; the message has the reason and the remedies.
    """
    remove_leftovers(target.parent)  # of downloads that were killed, which may be large
    try:
        with atomic_write(target) as part:
            yield part
    except OSError as error:
        raise DownloadError(
            f"{target.name} cannot be written to {target.parent} ({error.strerror or error}): make room or "
            "correct the permissions, or choose another folder with OPERA_ENV_CACHE or TORCH_HOME."
        ) from error


def expect_sha256(path: Path | str, expected: str, found: str) -> None:
    """Checks that a SHA-256 begins with the expected digits.

    Args:
        path: The file, or a name for the error message.
        expected: A SHA-256, or its first digits.
        found: The SHA-256 of the file.

    Raises:
        WeightsIntegrityError: If the hash is wrong.
    """
    if not found.startswith(expected):
        raise WeightsIntegrityError(path, f"sha256 {expected}", found)


def _check_content(part: Path, sha256: str | None, check: Callable[[Path], None] | None) -> None:
    found = file_sha256(part)
    size = part.stat().st_size
    if sha256 is not None and not found.startswith(sha256):
        raise _TransferError(
            f"expected sha256 {sha256}, received {_kind(part)} of {size:,} bytes with {found}"
        )
    try:
        if check is not None:
            check(part)
    except WeightsIntegrityError as error:
        raise _TransferError(
            f"expected {error.expected}, received {_kind(part)} of {size:,} bytes with {error.found}"
        ) from error


def _kind(part: Path) -> str:
    with part.open("rb") as file:
        return "a web page" if file.read(512).lstrip().startswith(b"<") else "another file"


def _transfer(url: str, part: Path, limits: DownloadLimits) -> None:
    """Writes what an address has to a file; asks for the rest if the connection is cut.

    Raises:
        _TransferError: If the address does not have it, or sends too much, too little or too slowly.
        OSError: If the file cannot be written.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            _transfer_once(url, part, limits)
            return
        except _CutError:
            if attempt == _ATTEMPTS:
                raise


def _transfer_once(url: str, part: Path, limits: DownloadLimits) -> None:
    """Appends to a file what an address still has of it, or replaces it if the address sends all of it."""
    held = part.stat().st_size if part.exists() else 0
    with closing(_open(url, limits, held)) as response:
        if not _continues_at(response, held):
            held = 0
        announced = _content_length(response)
        _check_size(part, held, announced, limits)
        received = held
        with part.open("ab" if held else "wb") as file:
            for chunk in _chunks(response, announced or 0):
                received += len(chunk)
                if received > limits.max_bytes:
                    raise _TransferError(f"more than {limits.max_bytes:,} bytes, which is too large")
                file.write(chunk)
    if announced is not None and received < held + announced:
        raise _CutError(f"the connection ended after {received:,} of {held + announced:,} bytes")


def _open(url: str, limits: DownloadLimits, offset: int) -> HTTPResponse:
    try:
        response = open_address(url, limits, offset)
    except HTTPError as error:
        error.close()
        raise _TransferError(f"HTTP status {error.code}, {_printable(error.reason)}") from error
    except URLError as error:
        raise _TransferError(_printable(error.reason)) from error
    except (OSError, HTTPException) as error:
        raise _TransferError(_printable(error)) from error
    if (encoding := response.headers.get("Content-Encoding", "identity").lower()) != "identity":
        response.close()
        raise _TransferError(f"the file comes compressed ({_printable(encoding)}), which was not asked for")
    return response


def _printable(reason: object) -> str:
    """Returns a reason in one short line; a server may have written it, so no terminal obeys it."""
    text = error_message(reason) if isinstance(reason, BaseException) else str(reason)
    return escape_controls(text)[:_MAX_REASON]


def _continues_at(response: HTTPResponse, offset: int) -> bool:
    """Returns whether a server sends the rest of a file from a byte on, and not all of it."""
    match = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return response.status == 206 and match is not None and int(match[1]) == offset


def _content_length(response: HTTPResponse) -> int | None:
    """Returns the number of bytes that a server announces; None without a number, which is no error."""
    text = response.headers.get("Content-Length", "")
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def _check_size(part: Path, held: int, announced: int | None, limits: DownloadLimits) -> None:
    """Refuses a file before its first byte, if it is too large or does not fit on the disk."""
    size = held + (announced or 0)
    if size > limits.max_bytes:
        raise _TransferError(f"{size:,} bytes are announced, expected at most {limits.max_bytes:,}")
    free = shutil.disk_usage(part.parent).free
    if size - held > free:
        raise OSError(errno.ENOSPC, f"{size - held:,} bytes are needed, {free:,} are free")


def _chunks(response: HTTPResponse, announced: int) -> Iterator[bytes]:
    """Yields the content of a response, under a progress bar if standard error is a terminal."""
    quiet = not console.is_terminal
    with wrap_file(response, announced, description="", console=console, disable=quiet) as source:
        while True:
            try:
                chunk = source.read(_CHUNK_BYTES)
            except (IncompleteRead, ConnectionError) as error:
                raise _CutError(f"the connection was cut ({type(error).__name__})") from error
            except (OSError, HTTPException) as error:
                raise _TransferError(_printable(error)) from error
            if not chunk:
                return
            yield chunk
