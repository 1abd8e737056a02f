"""The setting that every benchmark shares, and how time and memory are measured."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import psutil
import torch
from numpy.random import Generator

from opera_env.data import bundled
from opera_env.errors import BenchError
from opera_env.search import all_plans
from opera_env.tools import Toolbox
from opera_env.types import Plan, Sample


@dataclass(frozen=True)
class BenchmarkContext:
    """The setting of a benchmark: tools, samples and random plans.

    Attributes:
        toolbox: The tools, on the device that is measured.
        toolbox_name: Name or folder of the toolbox, from which other processes load it again.
        quick: Whether to use small inputs. The figures are then meaningless; this only checks that
            the benchmark runs.
        seed: Seed of the samples and of the random plans.
        progress: Called with a short description of each measurement.
    """

    toolbox: Toolbox
    toolbox_name: str = "lite"
    quick: bool = False
    seed: int = 0
    progress: Callable[[str], None] = lambda what: None

    @property
    def device(self) -> torch.device:
        """The device of the toolbox."""
        return self.toolbox.device

    @cached_property
    def samples(self) -> list[Sample]:
        """Sixty-four 128-pixel crops of bundled photographs with random degradations."""
        source, rng = bundled(128), self.rng()
        return [source.make(source.draw(rng)) for _ in range(4 if self.quick else 64)]

    def rng(self) -> Generator:
        """Returns a new random generator with the seed of the benchmark."""
        return np.random.default_rng(self.seed)

    def random_plans(self, count: int, max_length: int) -> list[Plan]:
        """Draws plans of one to ``max_length`` tools; all lengths are equally likely."""
        rng = self.rng()
        lengths = rng.integers(1, max_length + 1, count)
        return [tuple(str(name) for name in rng.choice(self.toolbox.names, length)) for length in lengths]

    def distinct_plans(self, count: int) -> list[Plan]:
        """Draws different plans uniformly from all plans up to the smallest sufficient length.

        Raises:
            BenchError: If the toolbox has fewer than two tools.
        """
        names = self.toolbox.names
        if len(names) < 2:
            raise BenchError("scaling needs at least two tools: name more with --tools.")
        max_length = next(length for length in range(1, 99) if len(names) ** length >= count)
        candidates = [plan for plan in all_plans(names, max_length) if plan]
        return [candidates[index] for index in self.rng().choice(len(candidates), count, replace=False)]

    def seconds(self, work: Callable[[], object]) -> float:
        """Returns the seconds that a call takes, including its work on the device."""
        self.synchronise()
        start = time.perf_counter()
        work()
        self.synchronise()
        return time.perf_counter() - start

    def busy_seconds(self, work: Callable[[], object]) -> float:
        """Returns the seconds that the device computes for a call.

        On a CPU this is the processor time of all threads together, which other programs hardly change.
        """
        if self.device.type != "cpu":
            return self.seconds(work)
        start = time.process_time()
        work()
        return time.process_time() - start

    def synchronise(self) -> None:
        """Waits until the device has finished its work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


@dataclass
class PeakMemory:
    """The largest memory held at one time.

    Attributes:
        bytes: Memory that torch has allocated on a GPU; on a CPU, the resident memory of the process.
    """

    bytes: int = 0


@contextmanager
def peak_memory(device: torch.device) -> Iterator[PeakMemory]:
    """Measures the peak memory while the context is open."""
    peak = PeakMemory()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        yield peak
        peak.bytes = torch.cuda.max_memory_allocated(device)
        return
    process, stop = psutil.Process(), threading.Event()

    def poll() -> None:
        while True:
            peak.bytes = max(peak.bytes, process.memory_info().rss)
            if stop.wait(0.005):
                return

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()
