"""Work side by side on a CPU: a thread or few a batch instead of all threads on every operation.

The networks of a toolbox are small and their images too, so that an operation is over before several
threads have shared it. Batches are independent of each other, and torch lets go of the interpreter while
it computes: as many of them at once as there are threads use all cores, without waiting for each other.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import TypeVar

import torch

T = TypeVar("T")


MAX_WORKERS = 8
"""More threads than this are shared between the lanes: every lane holds the activations of a batch."""


class WorkerPool:
    """Threads that compute side by side, each with its share of torch's threads; a context manager.

    Args:
        count: How many; with one, all work is done where it is submitted, by all of torch's threads.

    Example:
        >>> with WorkerPool(2) as lanes:
        ...     doubled = [lanes.submit(lambda x=x: 2 * x) for x in range(3)]
        >>> [future.result() for future in doubled]
        [0, 2, 4]
    """

    def __init__(self, count: int = 1) -> None:
        self.count = count
        self._threads = torch.get_num_threads()
        share = (max(1, self._threads // count),)
        self._pool = ThreadPoolExecutor(count, "lane", torch.set_num_threads, share) if count > 1 else None

    def submit(self, work: Callable[[], T], here: bool = False) -> Future[T]:
        """Begins a piece of work, after those that were submitted before.

        Args:
            work: What to do.
            here: Do it now and in this thread: for what must not run twice at a time.

        Returns:
            Where its result will be. What is done here is done on return; its errors are raised here.
        """
        if self._pool is not None and not here:
            return self._pool.submit(work)
        future: Future[T] = Future()
        future.set_result(work())
        return future

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Waits for what has begun; drops what has not."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            torch.set_num_threads(self._threads)  # a lane's choice is the default of threads to come
