"""A pool of threads that process batches in parallel on a CPU.

The networks of a toolbox and their images are small, so an operation ends before several threads can share
it. Batches are independent of each other, and torch releases the interpreter lock while it computes. One
batch per thread therefore uses all cores, where one batch split over all threads does not.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import TypeVar

import torch

T = TypeVar("T")


MAX_WORKERS = 8
"""Maximum number of workers in a pool. Each worker holds the activations of one batch in memory, so further
threads are shared between the workers."""


class WorkerPool:
    """Worker threads that divide torch's threads among them; a context manager.

    Args:
        num_workers: Number of workers. With one worker, all work runs in the thread that submits it, with
            all of torch's threads.

    Example:
        >>> with WorkerPool(2) as pool:
        ...     doubled = [pool.submit(lambda x=x: 2 * x) for x in range(3)]
        >>> [future.result() for future in doubled]
        [0, 2, 4]
    """

    def __init__(self, num_workers: int = 1) -> None:
        self.num_workers = num_workers
        self._num_threads = torch.get_num_threads()
        self._executor: ThreadPoolExecutor | None = None
        if num_workers > 1:
            threads_per_worker = max(1, self._num_threads // num_workers)
            self._executor = ThreadPoolExecutor(
                num_workers, "worker", torch.set_num_threads, (threads_per_worker,)
            )

    def submit(self, work: Callable[[], T], inline: bool = False) -> Future[T]:
        """Schedules a piece of work; work starts in the order of submission.

        Args:
            work: A function without arguments.
            inline: Run the work in the caller's thread before returning. Use it for work that must not run
                twice at the same time.

        Returns:
            The future of the result. An error of work that runs inline is raised here.
        """
        if self._executor is not None and not inline:
            return self._executor.submit(work)
        future: Future[T] = Future()
        future.set_result(work())
        return future

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Waits for work that has started and cancels the rest."""
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)
            # A worker's number of threads has become the default of threads that start later.
            torch.set_num_threads(self._num_threads)
