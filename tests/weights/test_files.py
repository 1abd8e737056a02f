"""The table of weight files and the cache folder."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from opera_env import weights
from opera_env.errors import DownloadError


def test_entries_have_https_addresses_and_hashes() -> None:
    assert len({weight.name for weight in weights.WEIGHT_FILES}) == len(weights.WEIGHT_FILES)
    for weight in weights.WEIGHT_FILES:
        assert all(url.startswith("https://") for url in weight.urls)
        assert len(weight.sha256) >= 8
        if weight.urls:
            match = re.search(r"(\d+) MB", weight.description)
            assert match is not None
            size = int(match[1]) * 2**20
            assert size < weight.max_bytes < 1.2 * size, "the limit is a little above the size"
        # Publishers that state only a prefix of the hash write it into the file name.
        assert len(weight.sha256) == 64 or weight.filename.split(".")[-2].endswith(weight.sha256)


def test_the_cache_folder_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert weights.cache_dir() == tmp_path / "cache"
    monkeypatch.delenv("OPERA_ENV_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert weights.cache_dir() == tmp_path / "xdg" / "opera-env"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert weights.cache_dir() == Path.home() / ".cache" / "opera-env"


def test_a_user_without_a_home_folder_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPERA_ENV_CACHE", "~nobody-of-this-name/cache")
    with pytest.raises(DownloadError, match="set OPERA_ENV_CACHE"):
        weights.cache_dir()
