"""Runs plans: shared prefixes once, equal work in batches, batches side by side, memory bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from opera_env.errors import ToolFailedError
from opera_env.execution.cache import PrefixCache
from opera_env.execution.memory import bytes_per_pixel
from opera_env.execution.schedule import Node, Schedule, build_tries, compute_priorities, walk
from opera_env.execution.tiles import restore_in_tiles
from opera_env.execution.worker_pool import WorkerPool
from opera_env.tools import Tool, Toolbox
from opera_env.types import Canvas, Plan, Sample


@dataclass(frozen=True)
class ExecutionResult:
    """The image a plan leads to.

    Attributes:
        sample: The sample the plan ran on, or one with the same image.
        plan: The plan.
        image: float32 (3, h, w) on the toolbox's device, at the size the tools left it;
            neither clamped nor rounded nor resampled to the canvas.
    """

    sample: Sample
    plan: Plan
    image: Tensor


@dataclass(eq=False)
class _Job:
    """A batch under way.

    Attributes:
        batch: The nodes that the tool's results belong to.
        future: Its results; None before it began.
        settled: Whether the nodes have their images.
    """

    batch: list[Node]
    future: Future[list[Tensor]] | None = None
    settled: bool = False

    @property
    def ready(self) -> bool:
        """Whether it can begin: it has not, and its inputs are there."""
        parents = (node.parent for node in self.batch)
        return self.future is None and all(parent and parent.image is not None for parent in parents)

    @property
    def failed(self) -> bool:
        return self.future is not None and self.future.done() and self.future.exception() is not None


MAX_UNTILED_PIXELS = 256 * 256
"""Pixels of an image that is never cut into tiles."""

MAX_TILE_PIXELS = 1024 * 1024
"""Pixels of a tile beyond which nothing gets faster."""

OnTile = Callable[[str, int, int], None]
"""Told of a tool's name, tiles done and tiles in all."""


class Executor:
    """Turns plans into images without gradients.

    Args:
        toolbox: The tools; shared, so training them is seen here at once.
        batch_pixels: Most pixels, of all images together, that a tool is given at once.
            A larger image goes alone.
        max_live_pixels: Intermediate images, in pixels, that may wait before what is nearest to its
            end goes first.
        cache: Where results are kept between calls; None keeps nothing.
        max_tile_bytes: Memory that a tool may take for one image, beside the image and its result.
            Images that would need more are cut into overlapping tiles.
        on_tile: Told when a tool begins, after each tile of a large image, and when it has done.

    Attributes:
        tools_run: Tool applications done so far.
    """

    def __init__(
        self,
        toolbox: Toolbox,
        batch_pixels: int = 16 * 128 * 128,
        max_live_pixels: int = 512 * 128 * 128,
        cache: PrefixCache | None = None,
        max_tile_bytes: int = 512 * 2**20,
        on_tile: OnTile | None = None,
    ) -> None:
        self.toolbox = toolbox
        self.max_tile_bytes = max_tile_bytes
        self.on_tile = on_tile
        self.batch_pixels = batch_pixels
        self.max_live_pixels = max_live_pixels
        self.cache = cache
        self.tools_run = 0
        self._bytes_per_pixel: dict[str, float] = {}

    def run(
        self, samples: Sequence[Sample], plans: Sequence[Plan], lanes: WorkerPool | None = None
    ) -> Iterator[ExecutionResult]:
        """Yields the result of each distinct plan of each distinct image once, in no stated order.

        Args:
            samples: One per plan.
            plans: Tool names; ``()`` yields the untouched image.
            lanes: Where batches run side by side; None runs one after the other. With as many lanes
                the same call gives the same bits in the same order; their number decides what shares
                a batch. Tools that are plain functions run in the caller's thread.

        Raises:
            UnknownToolError: If a plan names a tool that the toolbox lacks.
            ToolFailedError: If a tool raises, or returns a wrong shape, NaN or infinity.
        """
        for plan in plans:
            for name in plan:
                self.toolbox[name]
        fingerprint = self.toolbox.fingerprint if self.cache is not None else ""
        lanes = lanes or WorkerPool()
        known, schedule = self._plan(samples, plans, fingerprint, lanes.count)
        for node in known:
            yield from self._emit_result(node, fingerprint)
        for batch in self._batches(schedule, lanes):
            for node in batch:
                yield from self._emit_result(node, fingerprint)

    def _plan(
        self, samples: Sequence[Sample], plans: Sequence[Plan], fingerprint: str, lanes: int
    ) -> tuple[list[Node], Schedule]:
        """Returns the nodes whose images are known already, and the schedule of all others."""
        roots = build_tries(samples, plans)
        for root in roots:
            root.image = root.sample.lq.to(self.toolbox.device)
            self._load_cached(root, fingerprint)
        nodes = list(walk(roots))
        compute_priorities(nodes, self.toolbox)
        known = [node for node in nodes if node.image is not None]
        return known, Schedule(known, self.toolbox, self.max_live_pixels, lanes)

    def _load_cached(self, node: Node, fingerprint: str) -> bool:
        """Gives nodes the images that are cached; returns whether nothing has to run for this one."""
        if self.cache is not None and node.prefix:
            node.image = self.cache.get((node.sample.key, fingerprint, node.prefix))
        known = [self._load_cached(child, fingerprint) for child in node.children.values()]
        node.known = node.image is not None or (not node.wanted and all(known))
        return node.known

    def _emit_result(self, node: Node, fingerprint: str) -> Iterator[ExecutionResult]:
        """Yields a node's image if a plan ends there."""
        if not node.wanted:
            return
        assert node.image is not None
        if self.cache is not None and node.prefix:
            self.cache.put((node.sample.key, fingerprint, node.prefix), node.image)
        yield ExecutionResult(node.sample, node.prefix, node.image)
        node.release()

    def _batches(self, schedule: Schedule, lanes: WorkerPool) -> Iterator[list[Node]]:
        """Runs what is scheduled and yields it in the order of the schedule.

        With several lanes, what is next but waits for a result is overtaken by a few that do not.
        """
        jobs: deque[_Job] = deque()
        ahead = 1 if lanes.count == 1 else 4 * lanes.count
        while True:
            while len(jobs) < ahead and (batch := schedule.next(self.batch_pixels)) is not None:
                jobs.append(_Job(batch))
            if not jobs:
                return
            self._begin(jobs, lanes)
            self._settle(jobs)
            if jobs[0].settled:
                yield jobs.popleft().batch

    def _begin(self, jobs: Sequence[_Job], lanes: WorkerPool) -> None:
        """Begins jobs whose inputs are there, as many as keep the lanes busy."""
        busy = sum(job.future is not None and not job.settled for job in jobs)
        for job in jobs:
            if busy > lanes.count:  # one waits, so that no lane has to
                return
            tool = self.toolbox[job.batch[0].prefix[-1]]
            here = tool.module is None
            if job.ready and (job is jobs[0] or not here):
                job.future = lanes.submit(partial(self._apply, tool, job.batch), here)
                busy += 1

    def _settle(self, jobs: Sequence[_Job]) -> None:
        """Gives nodes the images that are done; waits for one unless the first job has its own.

        What failed fails when its turn comes, so that results before it are not lost.
        """
        first = jobs[0]
        running = [
            job for job in jobs if job.future and not job.settled and (job is first or not job.failed)
        ]
        if not first.settled:
            wait([job.future for job in running if job.future], return_when=FIRST_COMPLETED)
        for job in running:
            if job.future is None or not job.future.done() or (job is not first and job.failed):
                continue
            for node, image in zip(job.batch, job.future.result(), strict=True):
                assert node.parent is not None
                node.image = image
                node.parent.release()
            job.settled = True
            self.tools_run += len(job.batch)

    def _apply(self, tool: Tool, batch: Sequence[Node]) -> list[Tensor]:
        """Applies a tool to equally large images; halves the batch when memory runs out."""
        results, starved = None, False
        try:
            results = self._restore(tool, [_input(node) for node in batch], batch[0].sample.canvas)
        except Exception as error:  # a tool is anybody's code: whatever it raises is its failure
            if len(batch) == 1:
                raise _failure(tool, batch[0], f"{type(error).__name__}: {error}") from error
            starved = _out_of_memory(error)
        if results is None:
            return self._apply_in_smaller_batches(tool, batch, starved)
        if not results.sum().isfinite():  # one cheap look; the exact one only on suspicion
            for node, result in zip(batch, results, strict=True):
                if not result.isfinite().all():
                    raise _failure(tool, node, "its result has NaN or infinity in it")
        if len(batch) == 1:
            return list(results)
        return [result.clone() for result in results]  # or one that waits would keep the batch in memory

    @torch.inference_mode()
    def _restore(self, tool: Tool, images: Sequence[Tensor], canvas: Canvas) -> Tensor:
        """Runs a tool on a batch, or on one image tile by tile if it is large."""
        listener = self.on_tile or (lambda name, done, total: None)
        if len(images) == 1 and images[0].shape[-2] * images[0].shape[-1] > MAX_UNTILED_PIXELS:
            on_tile = partial(listener, tool.name)
            return restore_in_tiles(tool, images[0][None], canvas, self._tile_pixels(tool), on_tile)
        layout = torch.contiguous_format if tool.module is None else torch.channels_last
        if len(images) == 1:  # copied once: a tool may write into what it is given
            batch = images[0][None].clone(memory_format=layout)
        else:
            batch = torch.stack(list(images)).contiguous(memory_format=layout)
        listener(tool.name, 0, 1)
        result = tool(batch, canvas)
        listener(tool.name, 1, 1)
        return result

    def _tile_pixels(self, tool: Tool) -> int:
        """Pixels that the tool can take at once without needing more than its share of memory."""
        if tool.name not in self._bytes_per_pixel:
            self._bytes_per_pixel[tool.name] = bytes_per_pixel(tool, self.toolbox.device)
        affordable = self.max_tile_bytes / self._bytes_per_pixel[tool.name]
        return int(min(max(MAX_UNTILED_PIXELS, affordable), MAX_TILE_PIXELS))

    def _apply_in_smaller_batches(self, tool: Tool, batch: Sequence[Node], starved: bool) -> list[Tensor]:
        """Tries again in halves, or one by one: that tells which image a tool fails on."""
        size = len(batch) // 2 if starved else 1
        if starved:
            height, width = _input(batch[0]).shape[-2:]
            self.batch_pixels = size * height * width
        parts = (batch[first : first + size] for first in range(0, len(batch), size))
        return [result for part in parts for result in self._apply(tool, part)]


def _input(node: Node) -> Tensor:
    """The image that a node's last tool runs on."""
    assert node.parent is not None and node.parent.image is not None
    return node.parent.image


def _out_of_memory(error: Exception) -> bool:
    words = ("not enough memory", "can't allocate memory")  # what torch says of a CPU's, by platform
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or any(word in str(error) for word in words)


def _failure(tool: Tool, node: Node, reason: str) -> ToolFailedError:
    return ToolFailedError(tool.name, node.prefix[:-1], tuple(_input(node).shape), reason)
