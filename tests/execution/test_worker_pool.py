"""WorkerPool: parallel work, results in order, and a clean shutdown."""

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


def test_one_worker_is_the_callers_thread() -> None:
    with WorkerPool() as pool:
        assert pool.submit(_thread).result() is threading.current_thread()
        with pytest.raises(ZeroDivisionError):
            pool.submit(lambda: 1 // 0)


def test_several_workers_run_at_the_same_time() -> None:
    """Every piece of work waits for the others, so they end only if they run at the same time."""
    barrier = threading.Barrier(3, timeout=20)
    with WorkerPool(3) as pool:
        futures = [pool.submit(barrier.wait) for _ in range(3)]
        assert sorted(future.result() for future in futures) == [0, 1, 2]


def test_inline_work_runs_at_once_in_the_callers_thread() -> None:
    with WorkerPool(2) as pool:
        future = pool.submit(_thread, inline=True)
        assert future.done() and future.result() is threading.current_thread()
        assert pool.submit(_thread).result() is not threading.current_thread()
        with pytest.raises(ZeroDivisionError):
            pool.submit(lambda: 1 // 0, inline=True)


@pytest.mark.parametrize(("threads", "num_workers", "share"), [(1, 2, 1), (2, 2, 1), (5, 2, 2), (6, 3, 2)])
def test_workers_divide_torchs_threads_and_other_threads_keep_theirs(
    threads: int, num_workers: int, share: int, torch_threads: Callable[[int], None]
) -> None:
    torch_threads(threads)
    before = torch.get_num_threads()
    with WorkerPool(num_workers) as pool:
        assert pool.submit(torch.get_num_threads).result() == share
        assert torch.get_num_threads() == before
    assert torch.get_num_threads() == before
    later: list[int] = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert later == [before], "a worker's number of threads must not become the default"


def test_an_error_is_raised_when_the_result_is_read() -> None:
    with WorkerPool(2) as pool:
        failed, fine = pool.submit(lambda: 1 // 0), pool.submit(lambda: 5)
        assert fine.result() == 5
        with pytest.raises(ZeroDivisionError):
            failed.result()


def test_exit_waits_for_started_work_and_cancels_the_rest() -> None:
    started, may_end = threading.Event(), threading.Event()
    done: list[int] = []

    def slow() -> None:
        started.set()
        may_end.wait(20)
        done.append(1)

    def end_soon() -> None:
        time.sleep(0.1)
        may_end.set()

    with pytest.raises(KeyError), WorkerPool(2) as pool:
        pool.submit(slow)
        pool.submit(end_soon)
        never = [pool.submit(lambda: done.append(2)) for _ in range(5)]
        started.wait(20)
        raise KeyError
    assert done == [1]
    assert all(future.cancelled() for future in never)


@pytest.mark.parametrize("num_workers", [1, 2, 5])
def test_futures_are_in_the_order_of_submission(num_workers: int) -> None:
    works: list[Callable[[], int]] = [lambda x=x: x * x for x in range(40)]
    with WorkerPool(num_workers) as pool:
        assert [future.result() for future in map(pool.submit, works)] == [x * x for x in range(40)]
