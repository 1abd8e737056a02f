"""Downloads from servers that send too much, too little, too slowly, or something else."""

from __future__ import annotations

import hashlib
import shutil
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request

import pytest

from opera_env import weights
from opera_env.errors import DownloadError
from opera_env.weights.connection import DownloadLimits, _Redirects
from tests.weights.hostile_server import ANSWERS, SERVED, HostileServer, serve

BODY = bytes(range(256)) * 100
SHA256 = hashlib.sha256(BODY).hexdigest()
LIMITS = DownloadLimits(max_bytes=100_000, timeout=0.4, min_rate=2_000, rate_seconds=0.2)


@pytest.fixture(scope="module")
def hostile() -> Iterator[HostileServer]:
    with serve(BODY) as server:
        yield server


@pytest.fixture(autouse=True)
def fresh_counts(hostile: HostileServer) -> None:
    hostile.sent.clear()
    hostile.asked.clear()
    hostile.ranges.clear()


@pytest.mark.parametrize("path", SERVED)
def test_a_file_with_the_right_hash_is_kept(hostile: HostileServer, tmp_path: Path, path: str) -> None:
    target = tmp_path / "cache" / "file.pt"
    assert weights.download([hostile.url(path)], target, SHA256, limits=LIMITS) == target
    assert target.read_bytes() == BODY
    assert list(target.parent.iterdir()) == [target]


REASONS = {
    "endless": "more than 100,000 bytes",
    "endless-chunks": "more than 100,000 bytes",
    "endless-announced": "1,000,000,000,000,000 bytes are announced, expected at most 100,000",
    "endless-number": "more than 100,000 bytes",
    "endless-404": "HTTP status 404",
    "length-is-too-small": "received another file of 12,800 bytes",
    "cut-wrong-range": "the connection ended after",
    "cut-chunk": "the connection was cut",
    "empty": "received another file of 0 bytes",
    "page": "received a web page of 37 bytes",
    "404": "HTTP status 404",
    "500": "HTTP status 500",
    "compressed": "comes compressed (gzip)",
    "escape-sequence": r"HTTP status 404, \x1b[31mred",
    "garbage": r"\x00\x01",
    "many-headers": "more than 100 headers",
    "nothing": "closed connection",
    "silent": "timed out",
    "slow-body": "too slow",
    "slow-headers": "too slow",
    "slow-chunk-line": "too slow",
    "to-itself": "infinite loop",
    "to-http": "example.invalid/good: refused, only https",
    "to-a-file": "/etc/hostname",
    "to-ftp": "ftp://127.0.0.1/x: refused",
    "to-nowhere": "HTTP status 302",
}
"""What the message says, by path of the server."""


def test_every_answer_is_tried() -> None:
    assert {*SERVED, *REASONS} == set(ANSWERS)


@pytest.mark.parametrize("path", REASONS)
def test_another_answer_is_an_error_in_one_line_and_leaves_nothing(
    hostile: HostileServer, tmp_path: Path, path: str
) -> None:
    target = tmp_path / "cache" / "file.pt"
    with pytest.raises(DownloadError) as caught:
        weights.download([hostile.url(path)], target, SHA256, limits=LIMITS)
    message = str(caught.value)
    assert message.isprintable(), "one line, and no terminal obeys it"
    assert f"{hostile.url(path)}: " in message, "the address"
    assert REASONS[path] in message, "the reason"
    assert f"put it at {target}" in message, "the remedy"
    assert list(target.parent.iterdir()) == [], "nothing is left over"


@pytest.mark.parametrize("path", ["endless", "endless-chunks", "endless-announced", "endless-404"])
def test_an_endless_server_is_left_at_the_limit(hostile: HostileServer, tmp_path: Path, path: str) -> None:
    with pytest.raises(DownloadError):
        weights.download([hostile.url(path)], tmp_path / "file.pt", SHA256, limits=LIMITS)
    # The limit, and what the buffers of both sockets hold.
    assert hostile.sent[path] < LIMITS.max_bytes + 16 * 2**20


def test_an_endless_page_of_a_redirect_is_not_read(hostile: HostileServer, tmp_path: Path) -> None:
    weights.download([hostile.url("endless-redirect")], tmp_path / "file.pt", SHA256, limits=LIMITS)
    assert hostile.sent["endless-redirect"] < 16 * 2**20


def test_a_cut_download_continues_where_it_was_cut(hostile: HostileServer, tmp_path: Path) -> None:
    weights.download([hostile.url("cut")], tmp_path / "file.pt", SHA256, limits=LIMITS)
    third = len(BODY) // 3 + 1
    assert hostile.ranges == ["", f"bytes={third}-", f"bytes={2 * third}-"]
    assert hostile.sent["cut"] == len(BODY)


def test_a_remote_address_may_not_redirect_to_this_machine() -> None:
    response = type("Response", (), {"close": lambda self: None})()
    for new, allowed in [
        ("http://127.0.0.1:80/x", False),
        ("http://example.org/x", False),
        ("https://cdn.example.org/x", True),
    ]:
        request = Request("https://example.org/file")
        try:
            followed = _Redirects().redirect_request(request, response, 302, "Found", {}, new)
        except URLError:
            followed = None
        assert (followed is not None) == allowed, new


def test_a_full_disk_is_noticed_before_the_first_byte(
    hostile: HostileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 1000, 1000))
    with pytest.raises(DownloadError) as caught:
        weights.download([hostile.url("good")] * 2, tmp_path / "file.pt", SHA256, limits=LIMITS)
    message = str(caught.value)
    for expected in (
        "25,600 bytes are needed, 1,000 are free",
        str(tmp_path),
        "make room",
        "OPERA_ENV_CACHE",
    ):
        assert expected in message
    assert hostile.asked["good"] == 1, "another address does not make room"
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_is_a_file_is_named(hostile: HostileServer, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("not a folder")
    with pytest.raises(DownloadError, match="cache: not a folder"):
        weights.download([hostile.url("good")], tmp_path / "cache" / "file.pt", SHA256, limits=LIMITS)
