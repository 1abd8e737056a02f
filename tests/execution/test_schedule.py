"""Schedule: every node once, after its parent, long chains first, and independent batches for workers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, product
from typing import Any

import pytest

from opera_env.execution.schedule import Schedule, build_tries, compute_priorities, walk
from opera_env.tools import Tool, Toolbox


def _drain(schedule: Schedule, batch_pixels: int) -> list[list[Any]]:
    batches = []
    while (batch := schedule.next(batch_pixels)) is not None:
        batches.append([node.prefix for node in batch])
    return batches


def _schedule(
    toolbox: Toolbox, plans: Sequence[Any], make_sample: Any, live: int = 10**6, num_workers: int = 1
) -> Schedule:
    roots = build_tries([make_sample()] * len(plans), plans)
    compute_priorities(list(walk(roots)), toolbox)
    for root in roots:
        root.image = root.sample.lq
    return Schedule(roots, toolbox, live, num_workers)


def _letters() -> Toolbox:
    return Toolbox([Tool(name, lambda image: image) for name in "abcd"])


def test_the_longest_chain_goes_first_with_others_that_wait_for_its_tool(make_sample: Any) -> None:
    plans = [tuple("abab"), tuple("bb"), tuple("cb")]
    batches = _drain(_schedule(_letters(), plans, make_sample), 10**6)
    assert batches[0] == [("a",)]
    assert set(batches[1]) == {("a", "b"), ("b",)}, "everything that waits for b joins the long chain"
    assert sorted(prefix for batch in batches for prefix in batch) == sorted(
        {plan[:length] for plan in plans for length in range(1, len(plan) + 1)}
    )


@pytest.mark.parametrize("num_workers", [1, 3])
@pytest.mark.parametrize("live", [0, 10**6])
@pytest.mark.parametrize("batch", [1, 700, 10**6])
def test_every_node_is_scheduled_once_after_its_parent(
    make_sample: Any, live: int, batch: int, num_workers: int
) -> None:
    plans = [plan for length in range(5) for plan in product("abcd", repeat=length)]
    seen: set[Any] = {()}
    for prefixes in _drain(_schedule(_letters(), plans, make_sample, live, num_workers), batch):
        assert all(prefix[:-1] in seen and prefix not in seen for prefix in prefixes)
        assert len({prefix[-1] for prefix in prefixes}) == 1
        assert len(prefixes) <= max(1, batch // (12 * 16))
        seen.update(prefixes)
    assert seen == set(plans)


def test_with_two_workers_consecutive_batches_are_independent(make_sample: Any) -> None:
    plans = [plan for length in range(5) for plan in product("abcd", repeat=length)]
    batches = _drain(_schedule(_letters(), plans, make_sample, num_workers=2), 10**6)
    for before, after in pairwise(batches):
        assert not {prefix[:-1] for prefix in after} & set(before)


def test_a_single_chain_is_scheduled_with_any_number_of_workers(make_sample: Any) -> None:
    batches = _drain(_schedule(_letters(), [tuple("abcdab")], make_sample, num_workers=4), 10**6)
    assert batches == [[tuple("abcdab"[:length])] for length in range(1, 7)]
