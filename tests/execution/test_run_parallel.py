"""Parallel batches: the same results as one batch after the other, and the same bits every time."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from opera_env.errors import ToolFailedError
from opera_env.execution import Executor, PrefixCache, WorkerPool
from opera_env.tools import Tool, Toolbox

PLANS = [plan for length in range(4) for plan in product(("tiny.conv", "tiny.odd", "slow"), repeat=length)]


class Slow(nn.Module):
    """Takes longer for some images than for others, so that batches end in another order."""

    def forward(self, image: Tensor) -> Tensor:
        time.sleep(0.002 * (int(image.sum()) % 3))
        return image * 0.9 + 0.02


class ThreadRecorder(nn.Module):
    """Records the threads it ran in."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: list[threading.Thread] = []

    def forward(self, image: Tensor) -> Tensor:
        self.threads.append(threading.current_thread())
        return image * 0.5


class Bad(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        raise KeyError("no such layer")


@pytest.fixture
def toolbox(make_toolbox: Any) -> Toolbox:
    return make_toolbox().add("slow", Slow())


def _run(
    toolbox: Toolbox, samples: Sequence[Any], num_workers: int, **options: Any
) -> list[tuple[Any, ...]]:
    pairs = [(sample, plan) for sample in samples for plan in PLANS]
    columns = [sample for sample, _ in pairs], [plan for _, plan in pairs]
    with WorkerPool(num_workers) as pool:
        return [
            (result.sample.key, result.plan, result.image.numpy().tobytes())
            for result in Executor(toolbox, **options).run(*columns, pool)
        ]


def _assert_close(actual: list[tuple[Any, ...]], expected: list[tuple[Any, ...]]) -> None:
    """Compares results in any order; the composition of batches changes the last bits."""
    actual, expected = sorted(actual), sorted(expected)
    assert [row[:2] for row in actual] == [row[:2] for row in expected]
    for (*_, parallel_results), (*_, sequential_results) in zip(actual, expected, strict=True):
        images = (
            torch.from_numpy(np.frombuffer(image_bytes, np.float32).copy())
            for image_bytes in (parallel_results, sequential_results)
        )
        torch.testing.assert_close(*images, atol=1e-5, rtol=0)


@pytest.mark.parametrize("num_workers", [2, 3, 8])
@pytest.mark.parametrize("options", [{}, {"batch_pixels": 400}, {"max_live_pixels": 500}], ids=str)
def test_repeated_runs_yield_the_same_bits_in_the_same_order(
    toolbox: Toolbox, make_sample: Any, num_workers: int, options: dict[str, int]
) -> None:
    samples = [make_sample(0), make_sample(1), make_sample(2, (12, 16), (24, 32))]
    first = _run(toolbox, samples, num_workers, **options)
    assert len(first) == 3 * len(PLANS)
    for _ in range(3):
        assert _run(toolbox, samples, num_workers, **options) == first
    _assert_close(first, _run(toolbox, samples, 1, **options))


def test_a_small_cache_does_not_change_the_results(toolbox: Toolbox, make_sample: Any) -> None:
    samples = [make_sample(seed) for seed in range(2)]
    alone = _run(toolbox, samples, 1)
    cache = PrefixCache(30 * 12 * 16 * 12)
    for _ in range(3):
        _assert_close(_run(toolbox, samples, 3, cache=cache), alone)


def test_plain_functions_run_in_the_callers_thread(make_sample: Any) -> None:
    """Plain functions may keep state between calls; modules are called from all workers."""
    threads: list[threading.Thread] = []

    def function(image: Tensor) -> Tensor:
        threads.append(threading.current_thread())
        return image

    module = ThreadRecorder()
    toolbox = Toolbox([Tool("function", function), Tool("module", module)])
    plans = [plan for length in (1, 2) for plan in product(toolbox.names, repeat=length)]
    with WorkerPool(2) as pool:
        executor = Executor(toolbox, batch_pixels=12 * 16)
        assert len(list(executor.run([make_sample()] * len(plans), plans, pool))) == len(plans)
    assert set(threads) == {threading.current_thread()}
    assert threading.current_thread() not in module.threads


def test_a_failure_is_raised_after_the_results_before_it(make_sample: Any) -> None:
    """The failing tool ends long before the slow tool that was scheduled first."""
    toolbox = Toolbox([Tool("slow", Slow()), Tool("bad", Bad())])
    samples = [make_sample(seed) for seed in range(3)]
    for _ in range(3):
        got: list[Any] = []
        with WorkerPool(4) as pool, pytest.raises(ToolFailedError, match="no such layer") as caught:
            plans = [("slow", "slow", "slow"), ("slow",), ("bad",)]
            for result in Executor(toolbox).run(samples, plans, pool):
                got.append(result.plan)
        assert caught.value.tool == "bad"
        assert got == [("slow",)], "results scheduled before the failure come first"


def test_parallel_batches_hold_few_more_images(make_sample: Any) -> None:
    """Only a few batches are in flight, independent of the number of plans."""
    pixels = 12 * 16
    toolbox = Toolbox([Tool(name, ThreadRecorder()) for name in "abcd"])
    plans = [plan for length in range(5) for plan in product("abcd", repeat=length)]
    max_alive = 0
    with WorkerPool(2) as pool:
        executor = Executor(toolbox, batch_pixels=4 * pixels, max_live_pixels=0)
        original = executor._collect_done

        def collect_done(jobs: Sequence[Any]) -> None:
            nonlocal max_alive
            original(jobs)
            seen: set[int] = set()
            for job in jobs:
                for node in job.batch:
                    while node is not None:
                        if node.image is not None:
                            seen.add(id(node.image))
                        node = node.parent
            max_alive = max(max_alive, len(seen))

        executor._collect_done = collect_done  # type: ignore[method-assign]
        assert len(list(executor.run([make_sample()] * len(plans), plans, pool))) == 341
    assert max_alive <= 4 * 4 + 8 * 4 + 1, "a batch per level, eight batches in flight, and the input"
