"""A chat server on loopback that returns given answers and records its requests."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

Answer = str | int | bytes | Callable[[BaseHTTPRequestHandler], None]
"""Text of a completion, an HTTP status, a raw body, or a function that writes the whole response."""


class ChatServer:
    """Returns its answers in turn and repeats the last one."""

    def __init__(self, *answers: Answer) -> None:
        self.answers, self.requests, self.headers = list(answers), list[Any](), list[Any]()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                server.requests.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                server.headers.append({**self.headers, "path": self.path})
                answer = server.answers[min(len(server.requests), len(server.answers)) - 1]
                if callable(answer):
                    with contextlib.suppress(OSError):  # The client closes the connection.
                        answer(self)
                    return
                status = answer if isinstance(answer, int) else 200
                body = answer if isinstance(answer, bytes) else b"{}"
                if isinstance(answer, str):
                    choice = {"message": {"role": "assistant", "content": answer}}
                    body = json.dumps({"choices": [choice]}).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def serve() -> Iterator[Callable[..., ChatServer]]:
    """``serve("Yes", 503, ...)`` starts a server with these answers."""
    servers: list[ChatServer] = []

    def start(*answers: Answer) -> ChatServer:
        servers.append(ChatServer(*answers))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture(autouse=True)
def no_proxy_and_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
