"""HTTPS connections that lead to safe addresses only, and that a slow server cannot hold open for ever."""

from __future__ import annotations

import io
import time
import urllib.request
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from typing import IO, Any
from urllib.error import URLError
from urllib.parse import urlsplit

_LOCAL_HOSTS = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class DownloadLimits:
    """What a server may take; a download that exceeds a limit is stopped at once.

    Attributes:
        max_bytes: Largest size of the file in bytes.
        timeout: Longest wait in seconds for a connection or for the next bytes.
        min_rate: Least bytes per second, headers included. So no download lasts longer than
            ``max_bytes / min_rate`` seconds, which a limit between bytes alone does not ensure.
        rate_seconds: Seconds over which this rate is averaged.
    """

    max_bytes: int = 2_000_000_000
    timeout: float = 10.0
    min_rate: float = 10_000.0
    rate_seconds: float = 30.0


def open_address(url: str, limits: DownloadLimits, offset: int = 0) -> HTTPResponse:
    """Sends a GET request; proxies are those of the environment, certificates are checked.

    Args:
        url: Address: https, or http on this machine.
        limits: The limits that hold while headers and content are read.
        offset: Number of the first byte that is asked for. A server may send the whole file all the same.

    Raises:
        OSError: If there is no connection, the server refuses, or it redirects to an address that is not
            allowed.
        http.client.HTTPException: If the response is not one of HTTP.
    """
    _require_https(url)
    headers = {"User-Agent": "opera-env", "Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
    handlers = (_Redirects(), _HttpHandler(limits), _HttpsHandler(limits))
    request = urllib.request.Request(url, headers=headers)
    return urllib.request.build_opener(*handlers).open(request, timeout=limits.timeout)


def _require_https(url: str, origin: str | None = None) -> None:
    """Raises an error unless an address has https, or is on this machine as ``origin``, if given, is."""
    is_local = all(
        urlsplit(address).scheme == "http" and urlsplit(address).hostname in _LOCAL_HOSTS
        for address in (url, origin or url)
    )
    if urlsplit(url).scheme != "https" and not is_local:
        raise URLError(f"{url}: refused, only https is allowed for other machines")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to allowed addresses only."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        fp.close()  # the caller would read all of it into memory, which an endless page exhausts
        _require_https(newurl, req.full_url)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _HttpHandler(urllib.request.HTTPHandler):
    def __init__(self, limits: DownloadLimits) -> None:
        super().__init__()
        self._limits = limits

    def http_open(self, req: urllib.request.Request) -> HTTPResponse:
        return self.do_open(partial(_connection, HTTPConnection, self._limits), req)


class _HttpsHandler(urllib.request.HTTPSHandler):
    def __init__(self, limits: DownloadLimits) -> None:
        super().__init__()
        self._limits = limits

    def https_open(self, req: urllib.request.Request) -> HTTPResponse:
        return self.do_open(partial(_connection, HTTPSConnection, self._limits), req)


def _connection(
    connection_class: type[HTTPConnection], limits: DownloadLimits, host: str, **options: Any
) -> HTTPConnection:
    connection = connection_class(host, **options)
    response_class = partial(_SteadyResponse, limits)
    connection.response_class = response_class  # pyright: ignore[reportAttributeAccessIssue] - it is called
    return connection


class _SteadyResponse(HTTPResponse):
    """A response whose headers and content have to arrive at the least rate."""

    def __init__(self, limits: DownloadLimits, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.fp = io.BufferedReader(_SteadyReader(self.fp.detach(), limits))


class _SteadyReader(io.RawIOBase):
    """Reads a socket, and raises ``TimeoutError`` if less arrives than the least rate."""

    def __init__(self, raw: io.RawIOBase, limits: DownloadLimits) -> None:
        self._raw, self._limits = raw, limits
        self._since, self._received = time.monotonic(), 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        count = self._raw.readinto(buffer)
        self._received += count or 0
        seconds = time.monotonic() - self._since
        if seconds >= self._limits.rate_seconds:
            rate, least = self._received / seconds, self._limits.min_rate
            if rate < least:
                raise TimeoutError(f"too slow: {rate:,.0f} bytes per second, expected {least:,.0f} or more")
            self._since, self._received = time.monotonic(), 0
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()
