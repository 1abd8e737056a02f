"""Executor: the number of images alive at the same time, and the memory they hold."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from opera_env.execution import Executor, PrefixCache, run
from opera_env.execution.schedule import Schedule
from opera_env.execution.tool_runner import ToolRunner
from opera_env.tools import Tool, Toolbox

SIDE = 16
PIXELS = SIDE * SIDE
PLANS = [plan for length in range(5) for plan in product("abcd", repeat=length)]


class RecordingRunner(ToolRunner):
    """Records how many of its results are alive at the same time, and how much memory they hold."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.images: weakref.WeakSet[Tensor] = weakref.WeakSet()
        self.max_images = 0
        self.max_bytes_held = 0

    def apply(self, tool: Tool, batch: Sequence[Any]) -> list[Tensor]:
        results = super().apply(tool, batch)
        self.images.update(results)
        alive = list(self.images)
        self.max_images = max(self.max_images, len(alive))
        storages = {image.untyped_storage().data_ptr(): image.untyped_storage().nbytes() for image in alive}
        self.max_bytes_held = max(self.max_bytes_held, sum(storages.values()))
        return results


@pytest.fixture
def schedules(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The schedules that executors create during the test."""
    created: list[Any] = []

    class RecordingSchedule(Schedule):
        max_live = 0

        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            created.append(self)

        def _expand(self, *args: Any) -> None:
            super()._expand(*args)
            self.max_live = max(self.max_live, self._live_pixels)

    monkeypatch.setattr(run, "Schedule", RecordingSchedule)
    return created


def _recording_executor(batch_pixels: int, max_live_pixels: int) -> tuple[Executor, RecordingRunner]:
    executor = Executor(_toolbox(), batch_pixels, max_live_pixels)
    executor.tool_runner = runner = RecordingRunner(batch_pixels, 512 * 2**20)
    return executor, runner


def _toolbox() -> Toolbox:
    shifts = {"a": 0.01, "b": -0.02, "c": 0.03, "d": -0.05}
    return Toolbox([Tool(name, lambda image, by=by: image + by) for name, by in shifts.items()])


def _run(executor: Executor, make_sample: Any, count: int = 2) -> int:
    samples = [make_sample(seed, (SIDE, SIDE)) for seed in range(count)]
    return sum(1 for _ in executor.run(*_pairs(samples)))


def _pairs(samples: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    pairs = [(sample, plan) for sample in samples for plan in PLANS]
    return [sample for sample, _ in pairs], [plan for _, plan in pairs]


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("live", [0, 8])
def test_few_images_are_alive_at_the_same_time(
    make_sample: Any, schedules: list[Any], batch: int, live: int
) -> None:
    executor, runner = _recording_executor(batch * PIXELS, live * PIXELS)
    assert _run(executor, make_sample) == 2 * len(PLANS) == 682
    # The limit, at most one batch beyond it per level, and the last batch.
    bound = live + 4 * batch + batch
    assert runner.max_images <= bound
    assert schedules[0].max_live <= (bound + 2) * PIXELS
    assert len(runner.images) == 0, "no image may outlive the run"


def test_without_a_limit_many_images_are_alive(make_sample: Any) -> None:
    """Control of the test above: breadth first holds a whole level of the tree."""
    executor, runner = _recording_executor(4 * PIXELS, 10**9)
    _run(executor, make_sample)
    assert runner.max_images >= 128


@pytest.mark.parametrize("batch", [4, 16])
@pytest.mark.parametrize("live", [0, 32])
def test_memory_held_is_bounded_like_the_number_of_images(make_sample: Any, batch: int, live: int) -> None:
    """An image that waits must not keep the memory of its whole batch."""
    executor, runner = _recording_executor(batch * PIXELS, live * PIXELS)
    _run(executor, make_sample)
    bound = live + 4 * batch + batch
    assert runner.max_bytes_held <= bound * PIXELS * 3 * 4


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize(("batch", "live"), [(1, 0), (4, 8), (64, 10**6)])
def test_the_count_of_live_pixels_returns_to_zero(
    make_sample: Any, schedules: list[Any], batch: int, live: int, cached: bool
) -> None:
    cache = PrefixCache(40 * PIXELS * 12) if cached else None
    executor = Executor(_toolbox(), batch * PIXELS, live * PIXELS, cache)
    for _ in range(2 if cached else 1):
        _run(executor, make_sample)
    for schedule in schedules:
        assert schedule._live_pixels == 0
        assert not schedule._pending and not schedule._sizes
        assert not schedule._queues


def test_max_live_pixels_does_not_change_the_images(make_sample: Any) -> None:
    samples, plans = _pairs([make_sample(3, (SIDE, SIDE))])
    wide, deep = (
        {
            result.plan: result.image.clone()
            for result in Executor(_toolbox(), 999, live).run(samples, plans)
        }
        for live in (10**9, 0)
    )
    assert wide.keys() == deep.keys()
    for plan, image in wide.items():
        torch.testing.assert_close(deep[plan], image, atol=1e-6, rtol=0)
