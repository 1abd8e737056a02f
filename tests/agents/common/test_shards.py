"""Shards: only missing ones are collected, each is saved before the next, none is prepared in vain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from opera_agents.common.shards import collect_shards, open_shard
from opera_env.errors import RunError


@dataclass(frozen=True)
class Number:
    """A shard that holds its number."""

    number: int

    @property
    def summary(self) -> str:
        return f"number {self.number}"

    def save(self, path: Path) -> None:
        np.savez(path, number=self.number)


def prepare() -> Callable[[int], Number]:
    return Number


def test_missing_shards_are_collected_and_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = collect_shards(tmp_path, {"seed": 0}, 2, prepare)
    assert {"000.npz: number 0", "001.npz: number 1"} <= set(capsys.readouterr().out.splitlines())
    first.unlink()
    before = second.stat().st_mtime_ns
    assert len(collect_shards(tmp_path, {"seed": 0}, 3, prepare)) == 3
    assert second.stat().st_mtime_ns == before
    with open_shard(first) as file:
        assert file["number"] == 0


def test_an_interrupted_collection_keeps_the_shards_before(tmp_path: Path) -> None:
    def stop_at_two() -> Callable[[int], Number]:
        def collect(number: int) -> Number:
            if number == 2:
                raise KeyboardInterrupt
            return Number(number)

        return collect

    with pytest.raises(KeyboardInterrupt):
        collect_shards(tmp_path, {}, 4, stop_at_two)
    assert [path.name for path in sorted(tmp_path.glob("*.npz"))] == ["000.npz", "001.npz"]


def test_a_finished_collection_prepares_nothing_and_compares_the_settings(tmp_path: Path) -> None:
    paths = collect_shards(tmp_path, {"seed": 0}, 2, prepare)

    def fail() -> Callable[[int], Number]:
        raise AssertionError("no shard is missing")

    assert collect_shards(tmp_path, {"seed": 0}, 2, fail) == paths
    with pytest.raises(RunError, match="seed 0, now 1"):
        collect_shards(tmp_path, {"seed": 1}, 2, prepare)
