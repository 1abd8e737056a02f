"""What is benchmarked, and how the clock is read."""

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

FOUR = ("unet.denoise", "unet.derain", "unet.dehaze", "unet.defocus_deblur")
"""The four tools of the study, for noise, rain, haze and blur; 340 plans of one to four of them."""


@dataclass(frozen=True)
class BenchmarkContext:
    """What is benchmarked.

    Attributes:
        toolbox: The tools, on the device that is measured.
        pool: Name or folder that they were loaded from: other processes load them again.
        quick: Everything small: to see that it runs, not to believe the figures.
        seed: Of samples and random plans.
        progress: Told what is being measured.
    """

    toolbox: Toolbox
    pool: str = "lite"
    quick: bool = False
    seed: int = 0
    progress: Callable[[str], None] = lambda what: None

    @property
    def device(self) -> torch.device:
        return self.toolbox.device

    @cached_property
    def samples(self) -> list[Sample]:
        """Sixty-four 128-pixel crops of bundled photographs with random degradations."""
        source, rng = bundled(128), self.rng()
        return [source.make(source.draw(rng)) for _ in range(4 if self.quick else 64)]

    def rng(self) -> Generator:
        return np.random.default_rng(self.seed)

    def random_plans(self, count: int, longest: int) -> list[Plan]:
        """Draws plans of one tool to ``longest`` tools, all lengths equally likely."""
        rng = self.rng()
        lengths = rng.integers(1, longest + 1, count)
        return [tuple(str(name) for name in rng.choice(self.toolbox.names, length)) for length in lengths]

    def distinct_plans(self, count: int) -> list[Plan]:
        """Draws plans up to the length that has enough of them, none twice; most are long, as most are.

        Raises:
            BenchError: If there is one tool only.
        """
        names = self.toolbox.names
        if len(names) < 2:
            raise BenchError("growth needs at least two tools: name more with --tools.")
        longest = next(length for length in range(1, 99) if len(names) ** length >= count)
        every = [plan for plan in all_plans(names, longest) if plan]
        return [every[index] for index in self.rng().choice(len(every), count, replace=False)]

    def seconds(self, work: Callable[[], object]) -> float:
        """Returns how long a piece of work takes, what it leaves to the device included."""
        self.synchronise()
        start = time.perf_counter()
        work()
        self.synchronise()
        return time.perf_counter() - start

    def synchronise(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


@dataclass
class Peak:
    """The most memory held at once, in bytes.

    On a GPU what torch has allocated there, on a CPU the resident memory of the whole process.
    """

    bytes: int = 0


@contextmanager
def peak_memory(device: torch.device) -> Iterator[Peak]:
    """Measures the memory held while the context is open."""
    peak = Peak()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        yield peak
        peak.bytes = torch.cuda.max_memory_allocated(device)
        return
    process, over = psutil.Process(), threading.Event()

    def watch() -> None:
        while True:
            peak.bytes = max(peak.bytes, process.memory_info().rss)
            if over.wait(0.005):
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        over.set()
        watcher.join()
