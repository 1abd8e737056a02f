"""Work items on several machines: a Ray cluster, or all cores of this machine.

An item may run more than once, and in any order: its result depends on the item alone. A worker process
that dies is started again, and its item is run again; a driver that dies loses the items that were running.
"""

from __future__ import annotations

import logging
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from opera_env.errors import ClusterError
from opera_env.imports import needs_extra
from opera_env.settings import NonNegativeFloat, PositiveInt, check_settings

LOCAL = "local"
"""The address that stands for worker processes on this machine."""

_CONNECTION_SECONDS = 10

_MAX_RETRIES = 3
"""How often an item is run again after the death of its worker."""

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Cluster:
    """Where work items run.

    Attributes:
        address: Address of a Ray cluster, "auto" for the one that this machine belongs to, or "local" for
            processes on this machine.
        workers: Number of worker processes; None for one on each free core, or for each share of a GPU.
        gpus: Number of GPUs of each worker; 0.25 lets four share one.
    """

    address: str = LOCAL
    workers: PositiveInt | None = None
    gpus: NonNegativeFloat = 0.0

    def __post_init__(self) -> None:
        check_settings(self)


def map_on_cluster(
    cluster: Cluster, make: Callable[[], Callable[[Item], Result]], items: Iterable[Item]
) -> Iterator[tuple[Item, Result]]:
    """Runs a function on all items, and yields each with its result as soon as it is there.

    As many items as workers are under way, so that results do not pile up if whoever takes them is slow.

    Args:
        cluster: Where the items run.
        make: Returns the function. It is called once in each worker process, and both are pickled.
        items: The items; they are pickled as well.

    Yields:
        Items with their results, in the order in which they are finished.

    Raises:
        MissingPackageError: If Ray is not installed.
        ClusterError: If there is no cluster at the address, or the worker of an item dies again and again.
        Exception: What the function raises for an item.
    """
    with needs_extra("ray"):
        import ray
        import ray.exceptions
    _check_address(cluster.address)
    try:
        ray.init(
            None if cluster.address == LOCAL else cluster.address,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ClusterError(f"no Ray cluster at {cluster.address!r}: {error}") from error
    try:
        options: dict[str, Any] = {"max_restarts": -1, "max_task_retries": _MAX_RETRIES}
        options |= {"num_cpus": 1, "num_gpus": cluster.gpus}
        count = cluster.workers or _free_workers(ray.available_resources(), cluster.gpus)
        worker_type = ray.remote(**options)(_Worker)
        workers: list[Any] = [worker_type.remote(make) for _ in range(count)]
        waiting = deque(items)
        running: dict[Any, tuple[Any, Item]] = {}
        free = deque(workers)
        while waiting or running:
            while waiting and free:
                worker, item = free.popleft(), waiting.popleft()
                running[worker.run.remote(item)] = worker, item
            (done, *_), _ = ray.wait(list(running), num_returns=1)
            worker, item = running.pop(done)
            try:
                result = ray.get(done)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from error
            except ray.exceptions.RayError as error:
                raise ClusterError(
                    f"the worker of {item!r} died {_MAX_RETRIES + 1} times, perhaps for lack of memory: "
                    "use fewer workers"
                ) from error
            free.append(worker)
            yield item, result
    finally:
        ray.shutdown()


class _Worker:
    """A worker process, which keeps what the function needs."""

    def __init__(self, make: Callable[[], Callable[[Any], Any]]) -> None:
        import torch

        torch.set_num_threads(1)
        self._function = make()

    def run(self, item: Any) -> Any:
        return self._function(item)


def _check_address(address: str) -> None:
    """Raises :class:`ClusterError` if nobody answers at an address, where Ray would wait for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host:
        return
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECTION_SECONDS).close()
    except (OSError, ValueError) as error:
        raise ClusterError(f"no Ray cluster at {address!r}: {error}") from error


def _free_workers(resources: Mapping[str, float], gpus: float) -> int:
    """Returns how many workers fit into the free cores and GPUs, at least one."""
    cores = int(resources.get("CPU", 1))
    fitting = cores if not gpus else min(cores, int(resources.get("GPU", 0) / gpus))
    return max(1, fitting)
