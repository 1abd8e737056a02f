"""Downloads of weight files: hostile servers, signals, several processes, full disks and damaged caches."""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from opera_env import weights
from opera_env.cli import main
from opera_env.errors import DownloadError, WeightsIntegrityError
from opera_env.weights.connection import DownloadLimits
from tests.faults.conftest import Counts
from tests.faults.processes import Process, contents, leftovers, random_moments, run, small_disk
from tests.weights.hostile_server import ANSWERS, SERVED, HostileServer, serve

BODY = np.random.default_rng(0).bytes(4 << 20)
SHA256 = hashlib.sha256(BODY).hexdigest()
FILE = "pyiqa/musiq_koniq_ckpt-e95806b9.pth"
LIMITS = DownloadLimits(timeout=0.4, min_rate=2_000, rate_seconds=0.2)

FETCH = """
import sys
from dataclasses import replace
from opera_env.cli import main
from opera_env.weights import cache, files
url, sha256 = sys.argv[1:]
files.WEIGHT_FILES = cache.WEIGHT_FILES = tuple(
    replace(entry, urls=(url,), sha256=sha256) if entry.name == "musiq" else entry
    for entry in files.WEIGHT_FILES
)
sys.exit(main(["weights", "fetch", "musiq"]))
"""
"""Runs ``opera-env weights fetch musiq`` with another address in the table of weight files."""


@pytest.fixture(scope="module")
def server() -> Iterator[HostileServer]:
    with serve(BODY) as httpd:
        yield httpd


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder of torch.hub, for this test and the processes that it starts."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("OPERA_ENV_CACHE", str(tmp_path / "opera"))
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    return tmp_path / "hub"


@pytest.fixture
def change_address(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Changes the address of a weight file in this process."""

    def change(url: str) -> None:
        table = tuple(
            replace(entry, urls=(url,), sha256=SHA256, max_bytes=8 << 20)
            if entry.name == "musiq"
            else entry
            for entry in weights.WEIGHT_FILES
        )
        monkeypatch.setattr("opera_env.weights.files.WEIGHT_FILES", table)
        monkeypatch.setattr("opera_env.weights.cache.WEIGHT_FILES", table)

    return change


def test_the_command_ends_in_one_line_whatever_a_server_answers(
    server: HostileServer,
    hub: Path,
    change_address: Callable[[str], None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    counts: Counts,
) -> None:
    limits = partial(replace, LIMITS)
    monkeypatch.setattr("opera_env.weights.cache.DownloadLimits", limits)
    for path in ANSWERS:
        change_address(server.url(path))
        (hub / FILE).unlink(missing_ok=True)
        code = main(["weights", "fetch", "musiq"])
        lines = [line for line in capsys.readouterr().err.splitlines() if "cannot be downloaded" in line]
        assert code == (0 if path in SERVED else 1), path
        assert len(lines) == code and all(line.isprintable() for line in lines), path
        assert contents(hub) == ({FILE: BODY} if path in SERVED else {}), path
        counts("downloads: answers of hostile servers to the command")


def test_random_answers_give_the_file_or_one_line(tmp_path: Path, counts: Counts) -> None:
    rng = np.random.default_rng(0)
    body = rng.bytes(1000)
    sha256 = hashlib.sha256(body).hexdigest()
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nContent-Type: text/plain\r\n\r\n" + body
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n" + body + b"\r\n0\r\n\r\n"
    moved = b"HTTP/1.1 302 Found\r\nLocation: /good\r\nContent-Length: 0\r\n\r\n"
    with serve(body) as httpd, pytest.MonkeyPatch.context() as patch:
        for number in range(400):
            mutated = _mutate((answer, chunked, moved)[number % 3], rng)
            patch.setitem(ANSWERS, "mutated", lambda handler, data=mutated: handler.send(data))
            try:
                path = weights.download([httpd.url("mutated")], tmp_path / "file", sha256, limits=LIMITS)
                assert path.read_bytes() == body
                path.unlink()
                counts("downloads: mutated answers that gave the file")
            except DownloadError as error:
                assert str(error).isprintable()
                counts("downloads: mutated answers that were refused")
            assert list(tmp_path.iterdir()) == []


def _mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """Changes one to four places among the first 150 bytes, where the headers are."""
    mutable = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        start = int(rng.integers(0, 150))
        stop = start + int(rng.integers(0, 12))
        inserted = [rng.bytes(4), b"", b"\r\n", b"-", b"99999999999999999999", b"\0", b":"]
        mutable[start:stop] = inserted[rng.integers(len(inserted))]
    return bytes(mutable)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_download_leaves_nothing_that_the_next_one_keeps(
    number: signal.Signals,
    server: HostileServer,
    hub: Path,
    change_address: Callable[[str], None],
    counts: Counts,
) -> None:
    folder = (hub / FILE).parent
    for moment in random_moments(int(number), 2, 0.6):
        with Process(["-c", FETCH, server.url("paced"), SHA256]) as process:
            assert process.wait_until(lambda: any(path.stat().st_size for path in leftovers(hub)))
            assert process.send(number, after=moment)
            ended = process.wait()
        assert not (hub / FILE).exists(), "no file has its name before it is complete"
        if number != signal.SIGKILL:
            assert ended.code == 128 + number
            assert ended.err.splitlines()[-1] in ("terminated", "interrupted")
            assert "Traceback" not in ended.err
            assert list(folder.iterdir()) == []
        change_address(server.url("good"))
        weights.fetch("musiq")
        assert contents(hub) == {FILE: BODY}
        (hub / FILE).unlink()
        counts(f"downloads: ended by {number.name}")


def test_two_processes_fetch_one_file(server: HostileServer, hub: Path, counts: Counts) -> None:
    arguments = ["-c", FETCH, server.url("paced"), SHA256]
    with Process(arguments) as first, Process(arguments) as second:
        assert [first.wait().code, second.wait().code] == [0, 0]
    assert contents(hub) == {FILE: BODY}
    counts("downloads: processes that fetched one file at once", 2)


@pytest.mark.parametrize("path", ["good", "length-is-absent"])
def test_a_full_disk(path: str, server: HostileServer, hub: Path, counts: Counts) -> None:
    folder = (hub / FILE).parent
    with small_disk(folder, 1 << 20) as limit:
        ended = run(["-c", FETCH, server.url(path), SHA256], max_file_bytes=limit)
        assert ended.code == 1
        lines = [line for line in ended.err.splitlines() if "cannot be written to" in line]
        assert len(lines) == 1 and str(folder) in lines[0] and "make room" in lines[0]
        assert "Traceback" not in ended.err
        assert list(folder.iterdir()) == []
    counts("downloads: full disks")


def test_damaged_files_in_the_cache_are_named_and_replaced(
    server: HostileServer, hub: Path, change_address: Callable[[str], None], counts: Counts
) -> None:
    change_address(server.url("good"))
    rng = np.random.default_rng(0)
    flipped = bytearray(BODY)
    flipped[int(rng.integers(len(BODY)))] ^= 1
    for damaged in (b"", BODY[:-1], BODY + b"\0", bytes(flipped), b"<html>"):
        (hub / FILE).parent.mkdir(parents=True, exist_ok=True)
        (hub / FILE).write_bytes(damaged)
        with pytest.raises(WeightsIntegrityError, match="opera-env weights fetch musiq") as caught:
            weights.require("musiq")
        assert str(hub / FILE) in str(caught.value) and "\n" not in str(caught.value)
        assert weights.fetch("musiq").read_bytes() == BODY
        counts("downloads: damaged files in the cache")
