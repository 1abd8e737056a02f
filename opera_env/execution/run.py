"""The executor turns plans into images: shared prefixes run once, and equal work runs in batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from opera_env.execution.cache import PrefixCache
from opera_env.execution.schedule import Node, Schedule, build_tries, compute_priorities, walk
from opera_env.execution.tool_runner import ToolProgressCallback, ToolRunner
from opera_env.execution.worker_pool import WorkerPool
from opera_env.tools import Tool, Toolbox
from opera_env.types import Plan, Sample


@dataclass(frozen=True)
class ExecutionResult:
    """The result of a plan on a sample.

    Attributes:
        sample: The sample that the plan ran on, or one with the same image.
        plan: The plan.
        image: float32 (3, h, w) on the toolbox's device, at the size at which the last tool left it;
            neither clamped nor rounded nor resized to the canvas.
    """

    sample: Sample
    plan: Plan
    image: Tensor


@dataclass(eq=False)
class _Job:
    """A batch that waits, runs or has finished.

    Attributes:
        batch: The nodes that the tool computes.
        future: The images of the nodes; None before the job has started.
        collected: Whether the nodes have received their images.
    """

    batch: list[Node]
    future: Future[list[Tensor]] | None = None
    collected: bool = False

    @property
    def tool_name(self) -> str:
        """Name of the tool that computes the nodes."""
        return self.batch[0].prefix[-1]

    @property
    def ready(self) -> bool:
        """Whether the job has not started and all its inputs are available."""
        parents = (node.parent for node in self.batch)
        return self.future is None and all(parent and parent.image is not None for parent in parents)

    @property
    def failed(self) -> bool:
        """Whether the tool has raised an error."""
        return self.future is not None and self.future.done() and self.future.exception() is not None


class Executor:
    """Turns plans into images without gradients.

    Args:
        toolbox: The tools. They are shared, so weights that are trained elsewhere take effect at once.
        batch_pixels: Maximum number of pixels in a batch, all images together. A larger image is a batch of
            its own.
        max_live_pixels: Number of pixels of intermediate images in memory above which the plans that are
            nearest to their end run first.
        cache: Keeps results between calls; None keeps nothing.
        max_tile_bytes: Memory in bytes that a tool may use for one image, beside the image and its result.
            An image that needs more is cut into overlapping tiles.
        on_tile: Called when a tool starts, after each tile of a large image, and when the tool has ended.

    Attributes:
        tool_runner: Runs a tool on a batch; holds ``batch_pixels`` and ``max_tile_bytes``.
        tools_run: Number of tool applications so far.
    """

    def __init__(
        self,
        toolbox: Toolbox,
        batch_pixels: int = 16 * 128 * 128,
        max_live_pixels: int = 512 * 128 * 128,
        cache: PrefixCache | None = None,
        max_tile_bytes: int = 512 * 2**20,
        on_tile: ToolProgressCallback | None = None,
    ) -> None:
        self.toolbox = toolbox
        self.tool_runner = ToolRunner(batch_pixels, max_tile_bytes, on_tile)
        self.max_live_pixels = max_live_pixels
        self.cache = cache
        self.tools_run = 0

    def run(
        self, samples: Sequence[Sample], plans: Sequence[Plan], pool: WorkerPool | None = None
    ) -> Iterator[ExecutionResult]:
        """Yields the result of each distinct plan of each distinct image once, in no particular order.

        Args:
            samples: One per plan.
            plans: Names of tools; ``()`` yields the input image.
            pool: Workers that run batches in parallel; None runs one batch after the other. The number of
                workers decides which images share a batch, so with the same number the same call yields
                the same bits in the same order. Tools that are plain functions run in the caller's thread.

        Raises:
            UnknownToolError: If a plan names a tool that the toolbox does not have.
            ToolFailedError: If a tool raises, or returns a wrong shape, NaN or infinity.
        """
        for plan in plans:
            for name in plan:
                self.toolbox[name]
        fingerprint = self.toolbox.fingerprint if self.cache is not None else ""
        pool = pool or WorkerPool()
        available, schedule = self._plan(samples, plans, fingerprint, pool.num_workers)
        for node in available:
            yield from self._emit_result(node, fingerprint)
        for batch in self._batches(schedule, pool):
            for node in batch:
                yield from self._emit_result(node, fingerprint)

    def _plan(
        self, samples: Sequence[Sample], plans: Sequence[Plan], fingerprint: str, num_workers: int
    ) -> tuple[list[Node], Schedule]:
        """Returns the nodes whose images are available already, and the schedule of all others."""
        roots = build_tries(samples, plans)
        for root in roots:
            root.image = root.sample.lq.to(self.toolbox.device)
            self._load_cached(root, fingerprint)
        nodes = list(walk(roots))
        compute_priorities(nodes, self.toolbox)
        available = [node for node in nodes if node.image is not None]
        return available, Schedule(available, self.toolbox, self.max_live_pixels, num_workers)

    def _load_cached(self, node: Node, fingerprint: str) -> bool:
        """Loads cached images into a node and its descendants; returns whether the node is resolved."""
        if self.cache is not None and node.prefix:
            node.image = self.cache.get((node.sample.key, fingerprint, node.prefix))
        children = [self._load_cached(child, fingerprint) for child in node.children.values()]
        node.resolved = node.image is not None or (not node.is_output and all(children))
        return node.resolved

    def _emit_result(self, node: Node, fingerprint: str) -> Iterator[ExecutionResult]:
        """Yields and caches the image of a node if a plan ends there."""
        if not node.is_output:
            return
        assert node.image is not None
        if self.cache is not None and node.prefix:
            self.cache.put((node.sample.key, fingerprint, node.prefix), node.image)
        yield ExecutionResult(node.sample, node.prefix, node.image)
        node.release()

    def _batches(self, schedule: Schedule, pool: WorkerPool) -> Iterator[list[Node]]:
        """Runs the scheduled batches and yields them in the order of the schedule.

        With several workers, a batch that waits for its inputs is overtaken by a few batches that do not.
        """
        jobs: deque[_Job] = deque()
        max_in_flight = 1 if pool.num_workers == 1 else 4 * pool.num_workers
        if self.toolbox.residency is not None:
            max_in_flight += 1  # the tool of a further batch can be brought to the device meanwhile
        while True:
            while len(jobs) < max_in_flight:
                batch = schedule.next(self.tool_runner.batch_pixels)
                if batch is None:
                    break
                jobs.append(_Job(batch))
            if not jobs:
                return
            self._submit_ready(jobs, pool)
            self._collect_done(jobs)
            if jobs[0].collected:
                yield jobs.popleft().batch

    def _submit_ready(self, jobs: Sequence[_Job], pool: WorkerPool) -> None:
        """Submits jobs whose inputs are available, as many as keep all workers busy."""
        in_flight = sum(job.future is not None and not job.collected for job in jobs)
        # One job waits in the pool, so that no worker is idle.
        max_submitted = 1 if pool.num_workers == 1 else pool.num_workers + 1
        for job in jobs:
            if in_flight >= max_submitted:
                return
            tool = self.toolbox[job.tool_name]
            inline = tool.module is None
            if job.ready and (job is jobs[0] or not inline):
                waiting = (other.tool_name for other in jobs if other.future is None and other is not job)
                next_tool = next((name for name in waiting if name != tool.name), None)
                job.future = pool.submit(partial(self._apply, tool, job.batch, next_tool), inline)
                in_flight += 1

    def _apply(self, tool: Tool, batch: Sequence[Node], next_tool: str | None) -> list[Tensor]:
        """Applies a tool to a batch; the tool that runs next comes to the device meanwhile."""
        with self.toolbox.running(tool):
            if self.toolbox.residency is not None and next_tool is not None:
                self.toolbox.residency.prefetch(self.toolbox[next_tool])
            return self.tool_runner.apply(tool, batch)

    def _collect_done(self, jobs: Sequence[_Job]) -> None:
        """Gives nodes the images that are done; waits for one job if the first is not collected yet.

        The error of a job is raised when it is the first one, so that no result before it is lost.
        """
        first = jobs[0]
        running = [
            job for job in jobs if job.future and not job.collected and (job is first or not job.failed)
        ]
        if not first.collected:
            wait([job.future for job in running if job.future], return_when=FIRST_COMPLETED)
        for job in running:
            if job.future is None or not job.future.done() or (job is not first and job.failed):
                continue
            for node, image in zip(job.batch, job.future.result(), strict=True):
                assert node.parent is not None
                node.image = image
                node.parent.release()
            job.collected = True
            self.tools_run += len(job.batch)
