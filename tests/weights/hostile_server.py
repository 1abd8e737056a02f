"""A server on this machine that answers as broken and hostile servers do, one way for each path."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAGE = b"<!DOCTYPE html><title>Sign in</title>"


class HostileServer(ThreadingHTTPServer):
    """Serves ``body`` at /good; what other paths do is in :data:`ANSWERS`.

    Attributes:
        sent: Bytes that were sent, by path.
        asked: Requests, by path.
        ranges: The ``Range`` headers of requests, in order.
    """

    daemon_threads = True

    def __init__(self, body: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.body = body
        self.sent, self.asked = Counter[str](), Counter[str]()
        self.ranges: list[str] = []
        self.closing = threading.Event()

    def handle_error(self, request: object, client_address: object) -> None:
        """Does nothing: that a client ends the connection is what the tests are about."""

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{path}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HostileServer

    def do_GET(self) -> None:
        name = self.path.strip("/")
        self.close_connection = True
        self.server.asked[name] += 1
        self.server.ranges.append(self.headers.get("Range", ""))
        with suppress(OSError):
            ANSWERS[name](self)

    def head(self, status: int = 200, **headers: object) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), str(value))
        self.end_headers()

    def send(self, data: bytes) -> None:
        self.wfile.write(data)
        self.server.sent[self.path.strip("/")] += len(data)

    def send_for_ever(self, data: bytes, pause: float = 0.0) -> None:
        while not self.server.closing.wait(pause):
            self.send(data)

    def send_slowly(self, data: bytes) -> None:
        for index in range(len(data)):
            if self.server.closing.wait(0.05):
                return
            self.send(data[index : index + 1])

    def log_message(self, format: str, *args: object) -> None:
        pass


def _whole(handler: _Handler, **headers: object) -> None:
    handler.head(**headers)
    handler.send(handler.server.body)


def _part(handler: _Handler, first: int) -> None:
    """Sends at most a third of the file, although all the rest of it is announced."""
    body = handler.server.body
    size = len(body)
    span = f"bytes {first}-{size - 1}/{size}"
    handler.head(
        206 if first else 200, Content_Length=size - first, **({"Content_Range": span} if first else {})
    )
    handler.send(body[first : first + size // 3 + 1])


def _cut(handler: _Handler) -> None:
    asked = handler.headers.get("Range", "bytes=0-")
    _part(handler, int(asked.removeprefix("bytes=").rstrip("-")))


def _cut_once_without_ranges(handler: _Handler) -> None:
    if handler.server.asked["cut-once-without-ranges"] == 1:
        _part(handler, 0)
    else:
        _whole(handler, Content_Length=len(handler.server.body))


def _cut_wrong_range(handler: _Handler) -> None:
    """Continues at another byte than the one that was asked for."""
    _part(handler, 7 if handler.headers.get("Range") else 0)


def _chunked(handler: _Handler) -> None:
    handler.head(Transfer_Encoding="chunked")
    handler.send_for_ever(b"4000\r\n" + bytes(0x4000) + b"\r\n")


def _cut_chunk(handler: _Handler) -> None:
    handler.head(Transfer_Encoding="chunked")
    handler.send(b"4000\r\n" + bytes(100))


def _slow_chunk_line(handler: _Handler) -> None:
    handler.head(Transfer_Encoding="chunked")
    handler.send_slowly(b"0" * 10_000)


def _redirect(handler: _Handler, location: str) -> None:
    handler.head(302, Location=location, Content_Length=0)


def _endless_redirect(handler: _Handler) -> None:
    handler.head(302, Location="/good")
    handler.send_for_ever(bytes(1 << 16))


def _endless(handler: _Handler, status: int = 200, **headers: object) -> None:
    handler.head(status, **headers)
    handler.send_for_ever(bytes(1 << 16))


def _slow_body(handler: _Handler) -> None:
    handler.head(Content_Length=len(handler.server.body))
    handler.send_slowly(handler.server.body)


def _paced(handler: _Handler) -> None:
    """Sends the file in pieces, about 50 a second."""
    body = handler.server.body
    handler.head(Content_Length=len(body))
    for start in range(0, len(body), 1 << 16):
        handler.send(body[start : start + (1 << 16)])
        handler.server.closing.wait(0.02)


def _silent(handler: _Handler) -> None:
    handler.server.closing.wait(60)


def _many_headers(handler: _Handler) -> None:
    handler.send(b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: y\r\n" % number for number in range(5000)))
    handler.send(b"\r\n" + handler.server.body)


ANSWERS: dict[str, Callable[[_Handler], None]] = {
    "good": lambda handler: _whole(handler, Content_Length=len(handler.server.body)),
    "paced": _paced,
    # Served although something is wrong, because the hash decides.
    "length-is-no-number": lambda handler: _whole(handler, Content_Length="abc"),
    "length-is-negative": lambda handler: _whole(handler, Content_Length=-5),
    "length-is-absent": _whole,
    "redirect": lambda handler: _redirect(handler, "/good"),
    "endless-redirect": _endless_redirect,
    "cut": _cut,
    "cut-once-without-ranges": _cut_once_without_ranges,
    # Too much.
    "endless": _endless,
    "endless-chunks": _chunked,
    "endless-announced": lambda handler: _endless(handler, Content_Length=10**15),
    "endless-number": lambda handler: _endless(handler, Content_Length="9" * 4000),
    "endless-404": lambda handler: _endless(handler, 404),
    # Too little.
    "length-is-too-small": lambda handler: _whole(handler, Content_Length=len(handler.server.body) // 2),
    "cut-wrong-range": _cut_wrong_range,
    "cut-chunk": _cut_chunk,
    "empty": lambda handler: handler.head(Content_Length=0),
    # Something else.
    "page": lambda handler: (handler.head(Content_Length=len(PAGE)), handler.send(PAGE))[0],
    "404": lambda handler: handler.send_error(404),
    "500": lambda handler: handler.send_error(500),
    "compressed": lambda handler: _whole(handler, Content_Encoding="gzip"),
    "escape-sequence": lambda handler: handler.send(b"HTTP/1.1 404 \x1b[31mred\r\n\r\n"),
    "garbage": lambda handler: handler.send(bytes(range(256)) * 50),
    "many-headers": _many_headers,
    "nothing": lambda handler: None,
    # Too slow.
    "silent": _silent,
    "slow-body": _slow_body,
    "slow-headers": lambda handler: handler.send_slowly(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 10_000),
    "slow-chunk-line": _slow_chunk_line,
    # Elsewhere.
    "to-itself": lambda handler: _redirect(handler, "/to-itself"),
    "to-http": lambda handler: _redirect(handler, "http://example.invalid/good"),
    "to-a-file": lambda handler: _redirect(handler, "file:///etc/hostname"),
    "to-ftp": lambda handler: _redirect(handler, "ftp://127.0.0.1/x"),
    "to-nowhere": lambda handler: handler.head(302, Content_Length=0),
}
"""How the server answers, by path."""

SERVED = tuple(ANSWERS)[: tuple(ANSWERS).index("endless")]
"""The paths from which the file can be had."""


@contextmanager
def serve(body: bytes) -> Iterator[HostileServer]:
    """Runs a server for the duration of a ``with`` statement."""
    with HostileServer(body) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()
