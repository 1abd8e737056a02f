"""Downloading a file from the first address that has it, with a check of its hash."""

from __future__ import annotations

import shutil
import urllib.request
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlsplit

from rich.progress import wrap_file

from opera_env.console import Console
from opera_env.errors import DownloadError, WeightsIntegrityError
from opera_env.files import atomic_write
from opera_env.leftovers import remove_leftovers
from opera_env.weights.tensors import file_sha256

CONNECT_TIMEOUT = 10.0
"""Longest wait in seconds for a connection or the next bytes, before the next address is tried."""

console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
"""Console for the progress of downloads: standard error."""


def download(urls: Sequence[str], target: Path, sha256: str, *, timeout: float = CONNECT_TIMEOUT) -> Path:
    """Downloads a file atomically: it appears at its path complete and checked, or not at all.

    Args:
        urls: Addresses, tried in order: https, or http on this machine.
        target: Path of the file.
        sha256: SHA-256 of the file, or at least its first 8 digits.
        timeout: Longest wait in seconds for a connection or for the next bytes.

    Returns:
        ``target``.

    Raises:
        DownloadError: If no address has the file; the message lists the addresses and their errors.
        ValueError: If ``sha256`` has fewer than 8 digits.
    """
    if len(sha256) < 8:
        raise ValueError(f"{target.name}: expected at least 8 digits of its sha256, found {sha256!r}.")
    failures: list[str] = []
    remove_leftovers(target.parent)  # of downloads that were killed, which may be large
    for url in urls:
        console.print(f"{target.name}: from {url}")
        try:
            with atomic_write(target) as part:
                _stream(url, part, timeout)
                expect_sha256(url, sha256, file_sha256(part))
            return target
        except (OSError, HTTPException, WeightsIntegrityError) as error:
            failures.append(str(error) if url in str(error) else f"{url}: {error!r}")
    raise DownloadError(f"{target.name} cannot be downloaded:\n  " + "\n  ".join(failures))


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
        raise WeightsIntegrityError(path, expected, found)


def _stream(url: str, part: Path, timeout: float) -> None:
    _require_https(url)
    request = urllib.request.Request(url, headers={"User-Agent": "opera-env"})
    with urllib.request.build_opener(_Redirects).open(request, timeout=timeout) as response:
        size = int(response.headers.get("Content-Length") or 0)
        quiet = not console.is_terminal
        with (
            wrap_file(response, size, description="", console=console, disable=quiet) as source,
            part.open("wb") as file,
        ):
            shutil.copyfileobj(source, file, 1 << 20)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to allowed addresses only."""

    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: str) -> Any:
        _require_https(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _require_https(url: str) -> None:
    parts = urlsplit(url)
    is_local = parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost")
    if parts.scheme != "https" and not is_local:
        raise URLError(f"{url}: refused, only https is allowed for other machines")
