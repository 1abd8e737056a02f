"""Runs one tool on one batch: memory layout, tiles, errors, and a retry when memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from opera_env.errors import EndpointError, TimeLimitError, ToolFailedError
from opera_env.execution.memory import bytes_per_pixel
from opera_env.execution.schedule import Node
from opera_env.execution.tiles import restore_in_tiles
from opera_env.tools import Tool
from opera_env.types import Canvas

MAX_UNTILED_PIXELS = 256 * 256
"""Pixels up to which an image is never cut into tiles."""

MAX_TILE_PIXELS = 1024 * 1024
"""Largest tile in pixels. Larger tiles are not faster."""

ToolProgressCallback = Callable[[str, int, int], None]
"""Called with the name of a tool, the number of tiles done and the number of tiles."""


class ToolRunner:
    """Applies tools to batches of equally large images, without gradients.

    Args:
        batch_pixels: Maximum number of pixels in a batch, all images together.
        max_tile_bytes: Memory in bytes that a tool may use for one image, beside the image and its result.
            An image that needs more is cut into overlapping tiles.
        on_tile: Called when a tool starts, after each tile of a large image, and when the tool has ended. A
            ``TimeLimitError`` that it raises ends the call.

    Attributes:
        batch_pixels: As above; reduced when memory runs out, and kept so for later batches.
    """

    def __init__(
        self, batch_pixels: int, max_tile_bytes: int, on_tile: ToolProgressCallback | None = None
    ) -> None:
        self.batch_pixels = batch_pixels
        self.max_tile_bytes = max_tile_bytes
        self.on_tile = on_tile
        self._bytes_per_pixel: dict[str, float] = {}

    def apply(self, tool: Tool, batch: Sequence[Node]) -> list[Tensor]:
        """Applies a tool to the parents' images; tries again in smaller batches if that fails.

        Args:
            tool: The last tool of every node's prefix.
            batch: Nodes whose parents have images of one size.

        Returns:
            The image of each node, float32 (3, h, w).

        Raises:
            ToolFailedError: If the tool raises, or returns a wrong shape, NaN or infinity.
            EndpointError: If the tool is in another process, and that does not answer.
        """
        results, out_of_memory = None, False
        try:
            results = self._restore(tool, [_input(node) for node in batch], batch[0].sample.canvas)
        except (TimeLimitError, EndpointError):  # of ``on_tile``, or of the server of all images
            raise
        except Exception as error:  # a tool is any code: every exception is a failure of the tool
            if len(batch) == 1:
                raise _tool_failed(tool, batch[0], f"{type(error).__name__}: {error}") from error
            out_of_memory = _is_out_of_memory(error)
        if results is None:
            return self._apply_in_smaller_batches(tool, batch, out_of_memory)
        if not results.sum().isfinite():  # a cheap test of the batch before the exact one of each image
            for node, result in zip(batch, results, strict=True):
                if not result.isfinite().all():
                    raise _tool_failed(tool, node, "its result has NaN or infinity in it")
        if len(batch) == 1:
            return list(results)
        return [result.clone() for result in results]  # a view would keep the whole batch in memory

    def _apply_in_smaller_batches(
        self, tool: Tool, batch: Sequence[Node], out_of_memory: bool
    ) -> list[Tensor]:
        """Tries again in halves if memory ran out; else one by one, to find the image that fails."""
        size = len(batch) // 2 if out_of_memory else 1
        if out_of_memory:
            height, width = _input(batch[0]).shape[-2:]
            self.batch_pixels = size * height * width
        batches = (batch[start : start + size] for start in range(0, len(batch), size))
        return [result for smaller_batch in batches for result in self.apply(tool, smaller_batch)]

    @torch.inference_mode()
    def _restore(self, tool: Tool, images: Sequence[Tensor], canvas: Canvas) -> Tensor:
        """Runs a tool on a batch, or on one large image tile by tile."""
        callback = self.on_tile or (lambda name, done, total: None)
        if len(images) == 1 and images[0].shape[-2] * images[0].shape[-1] > MAX_UNTILED_PIXELS:
            image = images[0][None]
            tile_pixels = self._tile_pixels(tool, image.device)
            return restore_in_tiles(tool, image, canvas, tile_pixels, partial(callback, tool.name))
        layout = torch.contiguous_format if tool.module is None else torch.channels_last
        if len(images) == 1:  # a copy, since a tool may write into its input
            batch = images[0][None].clone(memory_format=layout)
        else:
            batch = torch.stack(list(images)).contiguous(memory_format=layout)
        callback(tool.name, 0, 1)
        result = tool(batch, canvas)
        callback(tool.name, 1, 1)
        return result

    def _tile_pixels(self, tool: Tool, device: torch.device) -> int:
        """Returns the pixels of the largest tile that stays within the memory limit."""
        if tool.name not in self._bytes_per_pixel:
            self._bytes_per_pixel[tool.name] = bytes_per_pixel(tool, device)
        max_pixels = self.max_tile_bytes / self._bytes_per_pixel[tool.name]
        return int(min(max(MAX_UNTILED_PIXELS, max_pixels), MAX_TILE_PIXELS))


def _input(node: Node) -> Tensor:
    """Returns the image that the last tool of a node runs on."""
    assert node.parent is not None and node.parent.image is not None
    return node.parent.image


def _is_out_of_memory(error: Exception) -> bool:
    messages = ("not enough memory", "can't allocate memory")  # of torch on a CPU, by platform
    is_memory_error = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return is_memory_error or any(message in str(error) for message in messages)


def _tool_failed(tool: Tool, node: Node, reason: str) -> ToolFailedError:
    return ToolFailedError(tool.name, node.prefix[:-1], tuple(_input(node).shape), reason)
