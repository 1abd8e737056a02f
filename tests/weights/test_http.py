"""Downloads from a server on this machine: atomic, checked, and only from allowed addresses."""

from __future__ import annotations

from pathlib import Path

import pytest

from opera_env import weights
from opera_env.errors import DownloadError


def test_a_download_writes_the_complete_file(server: str, tmp_path: Path, sha256: str, body: bytes) -> None:
    target = tmp_path / "new" / "file.pt"
    assert weights.download([f"{server}/good"], target, sha256) == target
    assert target.read_bytes() == body
    assert list(target.parent.iterdir()) == [target]


def test_a_download_needs_at_least_a_prefix_of_the_hash(server: str, tmp_path: Path, sha256: str) -> None:
    weights.download([f"{server}/good"], tmp_path / "file.pt", sha256[:8])
    with pytest.raises(ValueError, match="sha256"):
        weights.download([f"{server}/good"], tmp_path / "file.pt", "")


@pytest.mark.parametrize(
    ("path", "correct", "reason"),
    [("good", False, f"expected sha256 {'0' * 64}"), ("short", True, "ended after 20,000 of 40,000 bytes")],
)
def test_a_wrong_or_truncated_download_keeps_the_existing_file(
    server: str, tmp_path: Path, path: str, correct: bool, reason: str, sha256: str
) -> None:
    expected = sha256 if correct else "0" * 64
    target = tmp_path / "models" / "file.pt"
    with pytest.raises(DownloadError, match=reason):
        weights.download([f"{server}/{path}"], target, expected)
    assert list(target.parent.iterdir()) == []

    target.write_bytes(b"before")
    with pytest.raises(DownloadError):
        weights.download([f"{server}/{path}"], target, expected)
    assert target.read_bytes() == b"before"
    assert list(target.parent.iterdir()) == [target]


def test_a_failed_download_tries_the_next_address(
    server: str, tmp_path: Path, sha256: str, body: bytes
) -> None:
    urls = [f"{server}/nowhere", f"{server}/short", f"{server}/good"]
    assert weights.download(urls, tmp_path / "file.pt", sha256).read_bytes() == body


def test_the_error_lists_every_address_and_reason(server: str, tmp_path: Path, sha256: str) -> None:
    closed = "http://127.0.0.1:1/good"
    with pytest.raises(DownloadError) as caught:
        weights.download([f"{server}/nowhere", closed], tmp_path / "file.pt", sha256)
    text = str(caught.value)
    for expected in (f"{server}/nowhere", "404", closed, "refused"):
        assert expected in text


@pytest.mark.parametrize("url", ["http://example.invalid/x", "ftp://127.0.0.1/x", "file:///etc/hostname"])
def test_other_machines_need_https(url: str, tmp_path: Path, sha256: str) -> None:
    with pytest.raises(DownloadError, match="only https"):
        weights.download([url], tmp_path / "file.pt", sha256)


def test_a_redirect_needs_https(server: str, tmp_path: Path, sha256: str) -> None:
    with pytest.raises(DownloadError, match=r"example\.invalid.*only https"):
        weights.download([f"{server}/away"], tmp_path / "file.pt", sha256)
