"""Evaluation on a local cluster of two workers, one of which is killed: equal to that of one process."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from opera_env.cli import main
from opera_env.evaluation.results import Result, read_results
from opera_env.types import Decision, Observation

pytestmark = pytest.mark.slow

MARKER = "OPERA_TEST_MARKER"
"""Environment variable with the file that says that a worker was killed."""


class KillsItsProcess:
    """Kills its process when it is first asked, and plans nothing after that."""

    closed_loop = False

    def act(self, observations: Sequence[Observation]) -> list[Decision]:
        marker = Path(os.environ[MARKER])
        if not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return [Decision(()) for _ in observations]


def evaluate(photos: Path, toolbox: Path, out: Path, *more: str) -> list[dict[str, Any]]:
    """Evaluates three agents, and returns the results without their seconds."""
    agents = f"untouched,single:unet.denoise,{__name__}:KillsItsProcess"
    words = f"evaluate --benchmark groups-abc --hq {photos} --canvas 64 --n 1 --toolboxes {toolbox}"
    options = [
        "--agents",
        agents,
        "--reward",
        "tests.own_rewards:BRIGHT",
        "--device",
        "cpu",
        "--out",
        str(out),
    ]
    assert main([*words.split(), *options, *more]) == 0
    return [_without_seconds(result) for result in read_results(out)]


def _without_seconds(result: Result) -> dict[str, Any]:
    return replace(result, cost=replace(result.cost, seconds=0.0)).to_json()


def test_results_are_those_of_one_process_although_a_worker_is_killed(
    photos: Path, small_toolbox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = tmp_path / "marker"
    monkeypatch.setenv(MARKER, str(marker))
    on_cluster = evaluate(
        photos, small_toolbox, tmp_path / "a.jsonl", "--ray", "local", "--ray-workers", "2"
    )
    assert marker.exists(), "no worker was killed"
    assert on_cluster == evaluate(photos, small_toolbox, tmp_path / "b.jsonl")
    assert len(on_cluster) == 3 * 16
