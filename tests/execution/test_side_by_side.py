"""Batches side by side: the results of one after the other, and every time the same bits."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from opera_env.errors import ToolFailedError
from opera_env.execution import Executor, PrefixCache, WorkerPool
from opera_env.execution.schedule import Schedule, build_tries, compute_priorities, walk
from opera_env.tools import Tool, Toolbox

PLANS = [plan for length in range(4) for plan in product(("tiny.conv", "tiny.odd", "slow"), repeat=length)]


class Slow(nn.Module):
    """Takes longer for some images than for others, so that batches overtake each other."""

    def forward(self, image: Tensor) -> Tensor:
        time.sleep(0.002 * (int(image.sum()) % 3))
        return image * 0.9 + 0.02


class Noted(nn.Module):
    """Notes in which threads it ran."""

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


def _run(toolbox: Toolbox, samples: Sequence[Any], lanes: int, **options: Any) -> list[tuple[Any, ...]]:
    pairs = [(sample, plan) for sample in samples for plan in PLANS]
    columns = [sample for sample, _ in pairs], [plan for _, plan in pairs]
    with WorkerPool(lanes) as open_lanes:
        return [
            (result.sample.key, result.plan, result.image.numpy().tobytes())
            for result in Executor(toolbox, **options).run(*columns, open_lanes)
        ]


def _assert_close(found: list[tuple[Any, ...]], expected: list[tuple[Any, ...]]) -> None:
    """The same results in any order; what shares a batch moves the last bits."""
    found, expected = sorted(found), sorted(expected)
    assert [row[:2] for row in found] == [row[:2] for row in expected]
    for (*_, ours), (*_, theirs) in zip(found, expected, strict=True):
        images = (torch.from_numpy(np.frombuffer(one, np.float32).copy()) for one in (ours, theirs))
        torch.testing.assert_close(*images, atol=1e-5, rtol=0)


@pytest.mark.parametrize("lanes", [2, 3, 8])
@pytest.mark.parametrize("options", [{}, {"batch_pixels": 400}, {"max_live_pixels": 500}], ids=str)
def test_the_same_bits_in_the_same_order_every_time(
    toolbox: Toolbox, make_sample: Any, lanes: int, options: dict[str, int]
) -> None:
    samples = [make_sample(0), make_sample(1), make_sample(2, (12, 16), (24, 32))]
    first = _run(toolbox, samples, lanes, **options)
    assert len(first) == 3 * len(PLANS)
    for _ in range(3):
        assert _run(toolbox, samples, lanes, **options) == first
    _assert_close(first, _run(toolbox, samples, 1, **options))


def test_the_same_with_a_cache_that_forgets(toolbox: Toolbox, make_sample: Any) -> None:
    samples = [make_sample(seed) for seed in range(2)]
    alone = _run(toolbox, samples, 1)
    cache = PrefixCache(30 * 12 * 16 * 12)
    for _ in range(3):
        _assert_close(_run(toolbox, samples, 3, cache=cache), alone)


def test_plain_functions_run_in_the_callers_thread(make_sample: Any) -> None:
    """They are anybody's code and may keep something between calls; modules are called from all lanes."""
    threads: list[threading.Thread] = []

    def function(image: Tensor) -> Tensor:
        threads.append(threading.current_thread())
        return image

    module = Noted()
    toolbox = Toolbox([Tool("function", function), Tool("module", module)])
    plans = [plan for length in (1, 2) for plan in product(toolbox.names, repeat=length)]
    with WorkerPool(2) as lanes:
        executor = Executor(toolbox, batch_pixels=12 * 16)
        assert len(list(executor.run([make_sample()] * len(plans), plans, lanes))) == len(plans)
    assert set(threads) == {threading.current_thread()}
    assert threading.current_thread() not in module.threads


def test_a_failure_waits_for_the_results_before_it(make_sample: Any) -> None:
    """The failing tool is done long before the slow one that was to run first."""
    toolbox = Toolbox([Tool("slow", Slow()), Tool("bad", Bad())])
    samples = [make_sample(seed) for seed in range(3)]
    for _ in range(3):
        got: list[Any] = []
        with WorkerPool(4) as lanes, pytest.raises(ToolFailedError, match="no such layer") as caught:
            plans = [("slow", "slow", "slow"), ("slow",), ("bad",)]
            for result in Executor(toolbox).run(samples, plans, lanes):
                got.append(result.plan)
        assert caught.value.tool == "bad"
        assert got == [("slow",)], "what is scheduled before the failure, however long it takes"


def test_many_lanes_hold_few_images_more(make_sample: Any) -> None:
    """A schedule is followed with a few batches ahead, whatever the number of plans."""
    pixels = 12 * 16
    toolbox = Toolbox([Tool(name, Noted()) for name in "abcd"])
    plans = [plan for length in range(5) for plan in product("abcd", repeat=length)]
    most = 0
    with WorkerPool(2) as lanes:
        executor = Executor(toolbox, batch_pixels=4 * pixels, max_live_pixels=0)
        original = executor._settle

        def settle(jobs: Sequence[Any]) -> None:
            nonlocal most
            original(jobs)
            seen: set[int] = set()
            for job in jobs:
                for node in job.batch:
                    while node is not None:
                        if node.image is not None:
                            seen.add(id(node.image))
                        node = node.parent
            most = max(most, len(seen))

        executor._settle = settle  # type: ignore[method-assign]
        assert len(list(executor.run([make_sample()] * len(plans), plans, lanes))) == 341
    assert most <= 4 * 4 + 8 * 4 + 1, "a batch a level, eight batches ahead, the photograph"


# The schedule by itself


def _drain(schedule: Schedule, batch_pixels: int) -> list[list[Any]]:
    batches = []
    while (batch := schedule.next(batch_pixels)) is not None:
        batches.append([node.prefix for node in batch])
    return batches


def _schedule(
    toolbox: Toolbox, plans: Sequence[Any], make_sample: Any, live: int = 10**6, lanes: int = 1
) -> Schedule:
    roots = build_tries([make_sample()] * len(plans), plans)
    compute_priorities(list(walk(roots)), toolbox)
    for root in roots:
        root.image = root.sample.lq
    return Schedule(roots, toolbox, live, lanes)


def _letters() -> Toolbox:
    return Toolbox([Tool(name, lambda image: image) for name in "abcd"])


def test_the_longest_chain_goes_first_and_others_go_with_it(make_sample: Any) -> None:
    plans = [tuple("abab"), tuple("bb"), tuple("cb")]
    batches = _drain(_schedule(_letters(), plans, make_sample), 10**6)
    assert batches[0] == [("a",)]
    assert set(batches[1]) == {("a", "b"), ("b",)}, "all that waits for b goes with the long chain"
    assert sorted(prefix for batch in batches for prefix in batch) == sorted(
        {plan[:length] for plan in plans for length in range(1, len(plan) + 1)}
    )


@pytest.mark.parametrize("lanes", [1, 3])
@pytest.mark.parametrize("live", [0, 10**6])
@pytest.mark.parametrize("batch", [1, 700, 10**6])
def test_everything_is_scheduled_once_and_after_its_parent(
    make_sample: Any, live: int, batch: int, lanes: int
) -> None:
    plans = [plan for length in range(5) for plan in product("abcd", repeat=length)]
    seen: set[Any] = {()}
    for prefixes in _drain(_schedule(_letters(), plans, make_sample, live, lanes), batch):
        assert all(prefix[:-1] in seen and prefix not in seen for prefix in prefixes)
        assert len({prefix[-1] for prefix in prefixes}) == 1
        assert len(prefixes) <= max(1, batch // (12 * 16))
        seen.update(prefixes)
    assert seen == set(plans)


def test_with_two_lanes_two_in_a_row_do_not_wait_for_each_other(make_sample: Any) -> None:
    plans = [plan for length in range(5) for plan in product("abcd", repeat=length)]
    batches = _drain(_schedule(_letters(), plans, make_sample, lanes=2), 10**6)
    for before, after in pairwise(batches):
        assert not {prefix[:-1] for prefix in after} & set(before)


def test_a_single_chain_is_scheduled_with_any_number_of_lanes(make_sample: Any) -> None:
    batches = _drain(_schedule(_letters(), [tuple("abcdab")], make_sample, lanes=4), 10**6)
    assert batches == [[tuple("abcdab"[:length])] for length in range(1, 7)]
