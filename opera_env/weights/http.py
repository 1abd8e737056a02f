"""Downloading a file from the first address that has it, checked against its hash."""

from __future__ import annotations

import shutil
import urllib.request
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlsplit

from rich.console import Console
from rich.progress import wrap_file

from opera_env.errors import DownloadError, WeightsIntegrityError
from opera_env.files import atomic_write
from opera_env.weights.tensors import file_sha256

CONNECT_TIMEOUT = 10.0
"""Longest wait for a connection or the next bytes before the next place is tried."""

console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
"""Where progress of downloads is shown."""


def download(urls: Sequence[str], target: Path, sha256: str, *, timeout: float = CONNECT_TIMEOUT) -> Path:
    """Downloads a file from the first place that has it, whole.

    Args:
        urls: https addresses (or http on this machine), tried in turn.
        target: Where the file belongs; it appears there complete and checked or not at all.
        sha256: Its hash, or the first 8 digits or more of it.
        timeout: Longest wait, in seconds, for a connection or for the next bytes.

    Returns:
        ``target``.

    Raises:
        DownloadError: If no place has it; lists the places and what went wrong.
        ValueError: If there is no hash to check the file against.
    """
    if len(sha256) < 8:
        raise ValueError(f"{target.name}: needs 8 digits or more of its sha256, got {sha256!r}.")
    failures: list[str] = []
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
    """Raises WeightsIntegrityError unless the hash that was found begins with the expected digits."""
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
    """Follows a redirect only to where a download may start."""

    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: str) -> Any:
        _require_https(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _require_https(url: str) -> None:
    parts = urlsplit(url)
    is_local = parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost")
    if parts.scheme != "https" and not is_local:
        raise URLError(f"{url}: refused, only https is spoken beyond this machine")
