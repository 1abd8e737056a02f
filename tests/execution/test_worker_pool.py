"""Lanes: work side by side, the same results, and nothing left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest
import torch

from opera_env.execution import WorkerPool


@pytest.fixture
def torch_threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def _thread() -> threading.Thread:
    return threading.current_thread()


def test_one_lane_is_the_callers_thread() -> None:
    with WorkerPool() as lanes:
        assert lanes.submit(_thread).result() is threading.current_thread()
        with pytest.raises(ZeroDivisionError):
            lanes.submit(lambda: 1 // 0)


def test_several_lanes_work_at_once() -> None:
    """Each waits for the others: one after the other they would wait for ever."""
    barrier = threading.Barrier(3, timeout=20)
    with WorkerPool(3) as lanes:
        futures = [lanes.submit(barrier.wait) for _ in range(3)]
        assert sorted(future.result() for future in futures) == [0, 1, 2]


def test_what_is_done_here_is_done_at_once_and_in_this_thread() -> None:
    with WorkerPool(2) as lanes:
        future = lanes.submit(_thread, here=True)
        assert future.done() and future.result() is threading.current_thread()
        assert lanes.submit(_thread).result() is not threading.current_thread()
        with pytest.raises(ZeroDivisionError):
            lanes.submit(lambda: 1 // 0, here=True)


@pytest.mark.parametrize(("threads", "count", "share"), [(1, 2, 1), (2, 2, 1), (5, 2, 2), (6, 3, 2)])
def test_a_lane_has_its_share_of_threads_and_others_are_as_before(
    threads: int, count: int, share: int, torch_threads: Callable[[int], None]
) -> None:
    torch_threads(threads)
    before = torch.get_num_threads()
    with WorkerPool(count) as lanes:
        assert lanes.submit(torch.get_num_threads).result() == share
        assert torch.get_num_threads() == before
    assert torch.get_num_threads() == before
    later: list[int] = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert later == [before], "a lane's choice does not become the default"


def test_an_error_waits_for_whoever_asks() -> None:
    with WorkerPool(2) as lanes:
        failed, fine = lanes.submit(lambda: 1 // 0), lanes.submit(lambda: 5)
        assert fine.result() == 5
        with pytest.raises(ZeroDivisionError):
            failed.result()


def test_leaving_waits_for_what_has_begun_and_drops_the_rest() -> None:
    begun, may_end = threading.Event(), threading.Event()
    done: list[int] = []

    def slow() -> None:
        begun.set()
        may_end.wait(20)
        done.append(1)

    def soon() -> None:
        time.sleep(0.1)
        may_end.set()

    with pytest.raises(KeyError), WorkerPool(2) as lanes:
        lanes.submit(slow)
        lanes.submit(soon)
        never = [lanes.submit(lambda: done.append(2)) for _ in range(5)]
        begun.wait(20)
        raise KeyError
    assert done == [1]
    assert all(future.cancelled() for future in never)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_results_are_in_the_order_of_their_work(count: int) -> None:
    works: list[Callable[[], int]] = [lambda x=x: x * x for x in range(40)]
    with WorkerPool(count) as lanes:
        assert [future.result() for future in map(lanes.submit, works)] == [x * x for x in range(40)]
