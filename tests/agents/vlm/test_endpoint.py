"""``Endpoint``: limits on the time and size of answers, redirects, waits and malformed answers."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from opera_agents.vlm import endpoint
from opera_agents.vlm.endpoint import Endpoint
from opera_env.errors import EndpointError
from opera_env.serving import post

MESSAGES = [{"role": "user", "content": "Hello."}]


def responder(
    *chunks: bytes, seconds: float = 0.0, status: int = 200, **headers: str
) -> Callable[[BaseHTTPRequestHandler], None]:
    """Returns a function that sends the chunks, with a pause after each, and closes the connection."""

    def respond(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        for chunk in chunks:
            handler.wfile.write(chunk)
            handler.wfile.flush()
            time.sleep(seconds)

    return respond


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds of all waits, which take no time here."""
    seconds: list[float] = []

    def wait(attempt: int, retry_after: str | None = None) -> float:
        seconds.append(original(attempt, retry_after))
        return 0.0

    original = post.wait
    monkeypatch.setattr(post, "wait", wait)
    return seconds


@pytest.mark.parametrize("status", [200, 503])
def test_an_endless_answer_raises(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(endpoint, "MAX_RESPONSE_BYTES", 1 << 20)
    server = serve(responder(*[b"x" * 65536] * 1000, status=status))
    with pytest.raises(EndpointError, match="more than 1 MiB"):
        Endpoint(server.url, "m").chat(MESSAGES)
    assert len(server.requests) == 1, "it is not requested again"


def test_a_compressed_answer_that_expands_raises(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "MAX_RESPONSE_BYTES", 1 << 20)
    server = serve(responder(gzip.compress(bytes(1 << 24)), Content_Encoding="gzip"))
    with pytest.raises(EndpointError, match="more than 1 MiB"):
        Endpoint(server.url, "m").chat(MESSAGES)


def test_the_time_limit_holds_for_the_whole_answer(serve: Callable[..., Any], waits: list[float]) -> None:
    """Every piece comes in time, the whole answer does not."""
    server = serve(responder(*[b" "] * 60, seconds=0.05))
    start = time.monotonic()
    with pytest.raises(EndpointError, match=r"no answer after 2 tries.*not complete after 0.2 s"):
        Endpoint(server.url, "m", timeout=0.2, retries=1).chat(MESSAGES)
    assert time.monotonic() - start < 2
    assert len(server.requests) == 2


def test_an_answer_that_is_cut_off_is_requested_again(
    serve: Callable[..., Any], waits: list[float]
) -> None:
    server = serve(responder(b'{"choices"', Content_Length="100"), "Yes")
    assert Endpoint(server.url, "m").chat(MESSAGES).text == "Yes"


def test_redirects_are_refused(serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither photographs nor keys reach another address."""
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    other = serve("Yes")
    server = serve(responder(status=307, Location=f"{other.url}/chat/completions", Content_Length="0"))
    with pytest.raises(EndpointError, match=r"HTTP 307, redirected to 'http://127.*not followed"):
        Endpoint(server.url, "m").chat(MESSAGES)
    assert not other.requests


def test_waits_grow_and_are_limited(serve: Callable[..., Any], waits: list[float]) -> None:
    busy = [
        responder(status=429, Retry_After=value, Content_Length="0")
        for value in ("7", "86400", "Wed, 21 Oct 2065 07:28:00 GMT", "-3")
    ]
    assert Endpoint(serve(*busy, "Yes").url, "m").chat(MESSAGES).text == "Yes"
    assert waits == [7.0, post.MAX_WAIT, 2.0, 4.0]


@pytest.mark.parametrize(
    "body", [b"\xff\xfe", b"[" * 100_000, b'{"choices": {"0": 1}}', b'{"choices": [[]]}', b"null", b""]
)
def test_a_malformed_answer_raises(serve: Callable[..., Any], body: bytes) -> None:
    with pytest.raises(EndpointError, match="expected a chat completion") as caught:
        Endpoint(serve(body).url, "m").chat(MESSAGES)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("url", ["", "127.0.0.1:8000/v1", "file:///etc/hosts"])
def test_an_address_of_another_kind_raises(url: str) -> None:
    with pytest.raises(EndpointError, match="expected the address of a server"):
        Endpoint(url, "m")
