"""Runs plans: shared prefixes once, equal work in batches, memory bounded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from opera_env.errors import ToolFailedError
from opera_env.execution.cache import PrefixCache
from opera_env.execution.memory import bytes_per_pixel
from opera_env.execution.schedule import Node, build_tries
from opera_env.execution.tiles import restore_in_tiles
from opera_env.tools import Tool, Toolbox
from opera_env.types import Canvas, Plan, Sample


@dataclass(frozen=True)
class Result:
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


@dataclass(frozen=True)
class _Work:
    """A tool application to be done: the input image and the node its result belongs to."""

    image: Tensor
    node: Node


SMALL = 256 * 256
"""Pixels of an image that is never cut into tiles."""

LARGEST_TILE = 1024 * 1024
"""Pixels of a tile beyond which nothing gets faster."""

OnTile = Callable[[str, int, int], None]
"""Told of a tool's name, tiles done and tiles in all."""

_Group = tuple[str, int, int, bool]
"""What may share a batch: tool, height, width, whether the tool enlarges."""


class Executor:
    """Turns plans into images without gradients.

    Images are processed level by level while few are alive, which makes batches large,
    and depth first beyond that, which keeps memory at a few batches per level.

    Args:
        toolbox: The tools; shared, so training them is seen here at once.
        batch_pixels: Most pixels, of all images together, that a tool is given at once.
            A larger image goes alone.
        live_pixels: Intermediate images, in pixels, that may wait before the order turns
            depth first.
        cache: Where results are kept between calls; None keeps nothing.
        tile_bytes: Memory that a tool may take for one image, beside the image and its result.
            Images that would need more are cut into overlapping tiles.
        on_tile: Told when a tool begins, after each tile of a large image, and when it has done.

    Attributes:
        tools_run: Tool applications done so far.
    """

    def __init__(
        self,
        toolbox: Toolbox,
        batch_pixels: int = 16 * 128 * 128,
        live_pixels: int = 512 * 128 * 128,
        cache: PrefixCache | None = None,
        tile_bytes: int = 512 * 2**20,
        on_tile: OnTile | None = None,
    ) -> None:
        self.toolbox = toolbox
        self.tile_bytes = tile_bytes
        self.on_tile = on_tile
        self.batch_pixels = batch_pixels
        self.live_pixels = live_pixels
        self.cache = cache
        self.tools_run = 0
        self._bytes_per_pixel: dict[str, float] = {}

    def run(self, samples: Sequence[Sample], plans: Sequence[Plan]) -> Iterator[Result]:
        """Yields the result of each distinct plan of each distinct image once, in no fixed order.

        Args:
            samples: One per plan.
            plans: Tool names; ``()`` yields the untouched image.

        Raises:
            UnknownToolError: If a plan names a tool that the toolbox lacks.
            ToolFailedError: If a tool raises, or returns a wrong shape, NaN or infinity.
        """
        for plan in plans:
            for name in plan:
                self.toolbox[name]
        fingerprint = self.toolbox.fingerprint if self.cache is not None else ""
        queue = _Queue(self.live_pixels)
        for root in build_tries(samples, plans):
            image = root.sample.lq.to(self.toolbox.device)
            yield from self._settle(root, image, fingerprint, queue)
        while (batch := queue.pop(self.batch_pixels)) is not None:
            yield from self._advance(batch, fingerprint, queue)

    def _advance(self, batch: Sequence[_Work], fingerprint: str, queue: _Queue) -> Iterator[Result]:
        """Applies a tool and settles what it made; holds on to no image afterwards."""
        tool = self.toolbox[batch[0].node.prefix[-1]]
        for work, image in zip(batch, self._apply(tool, batch), strict=True):
            yield from self._settle(work.node, image, fingerprint, queue)
            queue.release(work)

    def _settle(self, node: Node, image: Tensor, fingerprint: str, queue: _Queue) -> Iterator[Result]:
        """Hands out a finished node and queues what comes after it, unless that is cached."""
        pending = [(node, image)]
        while pending:
            node, image = pending.pop()
            if node.wanted:
                if self.cache is not None and node.prefix:
                    self.cache.put((node.sample.key, fingerprint, node.prefix), image)
                yield Result(node.sample, node.prefix, image)
            for child in node.children.values():
                known = self._known(child, fingerprint)
                if known is None:
                    queue.push(_Work(image, child), self.toolbox[child.prefix[-1]])
                else:
                    pending.extend(known)

    def _known(self, node: Node, fingerprint: str) -> list[tuple[Node, Tensor]] | None:
        """Returns cached images that stand for a node: its own, or those of all that comes after it.

        None if the tool has to run: a plan ends here, or goes on to something that is not cached.
        """
        if self.cache is None:
            return None
        image = self.cache.get((node.sample.key, fingerprint, node.prefix))
        if image is not None:
            return [(node, image)]
        if node.wanted:
            return None
        found: list[tuple[Node, Tensor]] = []
        for child in node.children.values():
            below = self._known(child, fingerprint)
            if below is None:
                return None
            found += below
        return found

    def _apply(self, tool: Tool, batch: Sequence[_Work]) -> list[Tensor]:
        """Applies a tool to equally large images; halves the batch when memory runs out."""
        results, starved = None, False
        try:
            results = self._restore(tool, [work.image for work in batch], batch[0].node.sample.canvas)
        except Exception as error:  # a tool is anybody's code: whatever it raises is its failure
            if len(batch) == 1:
                raise _failure(tool, batch[0], f"{type(error).__name__}: {error}") from error
            starved = _out_of_memory(error)
        if results is None:
            return self._apply_in_parts(tool, batch, starved)
        self.tools_run += len(batch)
        if not results.sum().isfinite():  # one cheap look; the exact one only on suspicion
            for work, result in zip(batch, results, strict=True):
                if not result.isfinite().all():
                    raise _failure(tool, work, "its result has NaN or infinity in it")
        return list(results)

    @torch.inference_mode()
    def _restore(self, tool: Tool, images: Sequence[Tensor], canvas: Canvas) -> Tensor:
        """Runs a tool on a batch, or on one image tile by tile if it is large."""
        listener = self.on_tile or (lambda name, done, total: None)
        if len(images) == 1 and images[0].shape[-2] * images[0].shape[-1] > SMALL:
            on_tile = partial(listener, tool.name)
            return restore_in_tiles(tool, images[0][None], canvas, self._tile_pixels(tool), on_tile)
        batch = torch.stack(list(images))
        if tool.module is not None:
            batch = batch.contiguous(memory_format=torch.channels_last)
        listener(tool.name, 0, 1)
        result = tool(batch, canvas)
        listener(tool.name, 1, 1)
        return result

    def _tile_pixels(self, tool: Tool) -> int:
        """Pixels that the tool can take at once without needing more than its share of memory."""
        if tool.name not in self._bytes_per_pixel:
            self._bytes_per_pixel[tool.name] = bytes_per_pixel(tool, self.toolbox.device)
        affordable = self.tile_bytes / self._bytes_per_pixel[tool.name]
        return int(min(max(SMALL, affordable), LARGEST_TILE))

    def _apply_in_parts(self, tool: Tool, batch: Sequence[_Work], starved: bool) -> list[Tensor]:
        """Tries again in halves, or one by one: that tells which image a tool fails on."""
        size = len(batch) // 2 if starved else 1
        if starved:
            self.batch_pixels = size * batch[0].image.shape[-2] * batch[0].image.shape[-1]
        parts = (batch[first : first + size] for first in range(0, len(batch), size))
        return [result for part in parts for result in self._apply(tool, part)]


def _out_of_memory(error: Exception) -> bool:
    words = ("not enough memory", "can't allocate memory")  # what torch says of a CPU's, by platform
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or any(word in str(error) for word in words)


def _failure(tool: Tool, work: _Work, reason: str) -> ToolFailedError:
    return ToolFailedError(tool.name, work.node.prefix[:-1], tuple(work.image.shape), reason)


class _Queue:
    """Work that waits, by depth and by what may share a batch."""

    def __init__(self, live_pixels: int) -> None:
        self._levels: defaultdict[int, dict[_Group, list[_Work]]] = defaultdict(dict)
        self._waiting: defaultdict[int, int] = defaultdict(int)  # users of an image that several need
        self._live = 0
        self._live_limit = live_pixels

    def push(self, work: _Work, tool: Tool) -> None:
        height, width = work.image.shape[-2:]
        group = (tool.name, height, width, tool.grows((height, width), work.node.sample.canvas))
        self._levels[len(work.node.prefix)].setdefault(group, []).append(work)
        if not self._waiting[id(work.image)]:
            self._live += height * width
        self._waiting[id(work.image)] += 1

    def release(self, work: _Work) -> None:
        """Notes that work is done; its input is dead once nobody else waits for it."""
        self._waiting[id(work.image)] -= 1
        if not self._waiting[id(work.image)]:
            del self._waiting[id(work.image)]
            self._live -= work.image.shape[-2] * work.image.shape[-1]

    def pop(self, batch_pixels: int) -> list[_Work] | None:
        """Takes the next batch: of the shallowest level, or of the deepest if too much is alive."""
        if not self._levels:
            return None
        level = min(self._levels) if self._live <= self._live_limit else max(self._levels)
        groups = self._levels[level]
        group = max(groups, key=lambda key: len(groups[key]))
        count = max(1, batch_pixels // (group[1] * group[2]))
        works = groups[group]
        batch, groups[group] = works[-count:], works[:-count]
        if not groups[group]:
            del groups[group]
            if not groups:
                del self._levels[level]
        return batch
