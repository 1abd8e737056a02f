"""Samples, plans, time and memory of the benchmarks are what they claim to be."""

from __future__ import annotations

import mmap
import time

import pytest
import torch

from opera_env.bench.benchmarks import BENCHMARKS
from opera_env.bench.config import STUDY_TOOLS
from opera_env.bench.context import BenchmarkContext, peak_memory
from opera_env.errors import BenchError
from opera_env.tools import Toolbox


def test_peak_memory_includes_memory_that_was_released_again() -> None:
    """The memory comes from the system itself, because an allocator may reuse what it holds."""
    size = 256 * 2**20
    with peak_memory(torch.device("cpu")) as before:
        pass
    with peak_memory(torch.device("cpu")) as peak, mmap.mmap(-1, size) as held:
        held.write(b"x" * size)
        time.sleep(0.05)
    assert peak.bytes > before.bytes + size // 2


def test_seconds_plans_and_samples_are_as_described(bench: BenchmarkContext) -> None:
    assert 0.05 <= bench.seconds(lambda: time.sleep(0.05)) < 0.5
    assert bench.busy_seconds(lambda: time.sleep(0.05)) < 0.05
    assert bench.busy_seconds(lambda: sum(range(10**6))) > 0.001
    assert bench.random_plans(50, 6) == bench.random_plans(50, 6)
    assert {len(plan) for plan in bench.random_plans(200, 6)} == {1, 2, 3, 4, 5, 6}
    plans = bench.distinct_plans(300)
    assert len(set(plans)) == 300 and max(map(len, plans)) == 5
    assert len({sample.key for sample in bench.samples}) == len(bench.samples) == 4


def test_scaling_with_one_tool_is_refused() -> None:
    bench = BenchmarkContext(Toolbox.load("lite").subset(STUDY_TOOLS[:1]), quick=True)
    with pytest.raises(BenchError, match="two tools"):
        BENCHMARKS["scaling"].measure(bench)
