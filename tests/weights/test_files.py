"""The table of weight files and the cache folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from opera_env import weights


def test_entries_have_https_addresses_and_hashes() -> None:
    assert len({weight.name for weight in weights.WEIGHT_FILES}) == len(weights.WEIGHT_FILES)
    for weight in weights.WEIGHT_FILES:
        assert all(url.startswith("https://") for url in weight.urls)
        assert len(weight.sha256) >= 8
        # Publishers that state only a prefix of the hash write it into the file name.
        assert len(weight.sha256) == 64 or weight.filename.split(".")[-2].endswith(weight.sha256)


def test_the_cache_folder_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert weights.cache_dir() == tmp_path / "cache"
    monkeypatch.delenv("OPERA_ENV_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert weights.cache_dir() == tmp_path / "xdg" / "opera-env"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert weights.cache_dir() == Path.home() / ".cache" / "opera-env"
