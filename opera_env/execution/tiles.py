"""Restores large images in overlapping tiles: memory for one tile at a time, and no seams.

A tile is a core with a margin around it. The outer part of the margin, the halo, gives the tool context
and is discarded. Neighbouring tiles are blended across the inner part, which changes nothing where they
agree and hides the border where they do not. A network that needs statistics of the whole image
(:class:`opera_env.tools.global_context.GlobalContextNet`) receives them for every tile.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from opera_env.data.images import resize
from opera_env.tools import Tool
from opera_env.types import Canvas

BLEND_HALF_WIDTH = 8
"""Half the width, in pixels, over which neighbouring tiles are blended."""

DEFAULT_HALO, DEFAULT_BLEND = 48, 16
"""Halo and half blending width, in pixels, for a tool that does not declare its halo."""

WIDE_MARGIN = 64
"""Margins, in pixels, up to this width are kept in any case; wider ones are limited to a quarter of a tile.

The published transformers can be reached from hundreds of pixels away in theory, through all of their
layers, but hardly are. With margins that exact, a tile would be many times as large as the memory allows.
"""

MAX_STATISTICS_PIXELS, WINDOW_SIDE = 1024 * 1024, 256
"""Maximum number of pixels for statistics of the whole image, and the side, in pixels, of a sampled
window."""

TileCallback = Callable[[int, int], None]
"""Called with the number of tiles done and the number of tiles."""


@dataclass(frozen=True)
class Tile:
    """One tile along one axis, in pixels of the image: ``start <= core_start < core_end <= end``.

    Attributes:
        core_start, core_end: The core. The cores cover the axis without overlap.
        start, end: The core with its margin, cut off at the border of the image.
    """

    core_start: int
    core_end: int
    start: int
    end: int


def split_axis(length: int, side: int, margin: int, multiple: int) -> list[Tile]:
    """Splits an axis into tiles of about equal size that start at multiples.

    Args:
        length: Pixels along the axis.
        side: Largest length of a tile, margins included.
        margin: Width of the margin, a multiple of ``multiple``.
        multiple: Tiles start at multiples of this number, like the grid of the network.

    Example:
        >>> [(tile.start, tile.core_start, tile.core_end, tile.end) for tile in split_axis(100, 64, 8, 4)]
        [(0, 0, 36, 44), (28, 36, 72, 80), (64, 72, 100, 100)]
    """
    if length <= side:
        return [Tile(0, length, 0, length)]
    core = max(side - 2 * margin, 2 * margin, multiple)
    core = math.ceil(length / math.ceil(length / core))
    core += -core % multiple
    return [
        Tile(start, min(start + core, length), max(0, start - margin), min(start + core + margin, length))
        for start in range(0, length, core)
    ]


def restore_in_tiles(
    tool: Tool, image: Tensor, canvas: Canvas, tile_pixels: int, on_tile: TileCallback | None = None
) -> Tensor:
    """Applies a tool to an image of any size.

    Args:
        tool: The tool.
        image: float32 (1, 3, H, W); not changed.
        canvas: Size at which the image will be scored. It decides for the whole image, not tile by tile,
            whether the tool upscales.
        tile_pixels: Maximum number of pixels in a tile, margin included. Tiles are larger where the core
            would otherwise be smaller than its margins.
        on_tile: Called before each tile and at the end.

    Returns:
        The same as ``tool(image, canvas)`` up to rounding, if a pixel of the result depends only on pixels
        within the tool's halo, and the halo is not too large for the tiles; else an approximation.
    """
    height, width = image.shape[-2:]
    upscale = tool.upscales((height, width), canvas)
    scale = tool.scale if upscale else 1
    blend = DEFAULT_BLEND if tool.halo is None else min(BLEND_HALF_WIDTH, tool.halo)
    margin = (DEFAULT_HALO if tool.halo is None else tool.halo) + blend
    margin += 2 * (tool.scale > 1)  # bicubic resampling reads two pixels further
    margin += -margin % tool.multiple
    side = math.isqrt(tile_pixels)
    widest = max(WIDE_MARGIN, side // 4)
    margin = min(margin, max(tool.multiple, widest - widest % tool.multiple))
    rows, columns = (split_axis(length, side, margin, tool.multiple) for length in (height, width))
    tiled = len(rows) * len(columns) > 1
    statistics = _statistics(tool, image, min(MAX_STATISTICS_PIXELS, tile_pixels)) if tiled else None
    result = image.new_zeros((1, 3, height * scale, width * scale))
    tiles = list(product(rows, columns))
    for done, (row, column) in enumerate(tiles):
        if on_tile is not None:
            on_tile(done, len(tiles))
        patch = image[..., row.start : row.end, column.start : column.end]
        restored = tool.apply(
            patch.clone(memory_format=torch.channels_last),
            upscale,
            tool.locate(statistics, row.start, column.start),
        )
        _accumulate_tile(result, restored, row, column, blend, scale)
    if on_tile is not None:
        on_tile(len(tiles), len(tiles))
    return result


def _statistics(tool: Tool, image: Tensor, max_pixels: int) -> tuple[Tensor, ...] | None:
    """Returns the statistics of the whole image that the tool's network needs, if any."""
    match tool.statistics_source:
        case "downscaled":
            image = downscale(image, max_pixels)
        case "windows":
            image = sample_windows(image, max_pixels)
        case "full":
            pass
        case None:
            return None
    return tool.statistics(image)


def downscale(image: Tensor, max_pixels: int) -> Tensor:
    """Resizes an image (B, 3, H, W) to at most about ``max_pixels`` pixels."""
    height, width = image.shape[-2:]
    factor = min(1.0, math.sqrt(max_pixels / (height * width)))
    return resize(image, (max(1, round(height * factor)), max(1, round(width * factor))))


def sample_windows(image: Tensor, max_pixels: int) -> Tensor:
    """Joins evenly spaced windows of an image into one smaller image.

    Args:
        image: (B, 3, H, W).
        max_pixels: Maximum number of pixels in the result.

    Example:
        >>> sample_windows(torch.zeros(1, 3, 3000, 2000), 1024 * 1024).shape
        torch.Size([1, 3, 1280, 768])
    """
    height, width = image.shape[-2:]
    if height * width <= max_pixels:
        return image
    side = min(WINDOW_SIDE, height, width, math.isqrt(max_pixels))
    count = max_pixels // side**2
    num_rows = min(max(1, round(math.sqrt(count * height / width))), height // side, count)
    num_columns = min(count // num_rows, width // side)
    lefts = _evenly_spaced(width, side, num_columns)
    rows = [
        torch.cat([image[..., top : top + side, left : left + side] for left in lefts], dim=3)
        for top in _evenly_spaced(height, side, num_rows)
    ]
    return torch.cat(rows, dim=2)


def _evenly_spaced(length: int, side: int, count: int) -> list[int]:
    """Returns the first pixels of ``count`` evenly spaced windows along an axis."""
    return [int(length * (number + 0.5) / count - side / 2) for number in range(count)]


def _accumulate_tile(
    result: Tensor, restored: Tensor, row: Tile, column: Tile, blend: int, scale: int
) -> None:
    """Adds a tile to the result, with weights that sum to one over all tiles."""
    shape = result.shape[-2:]
    (top, bottom, row_weights), (left, right, column_weights) = (
        _blend_weights(tile, blend * scale, length, scale, result)
        for tile, length in zip((row, column), shape, strict=True)
    )
    cropped = restored[
        ...,
        top - row.start * scale : bottom - row.start * scale,
        left - column.start * scale : right - column.start * scale,
    ]
    result[..., top:bottom, left:right] += cropped * row_weights[:, None] * column_weights


def _blend_weights(
    tile: Tile, blend: int, length: int, scale: int, like: Tensor
) -> tuple[int, int, Tensor]:
    """Returns the pixels of the result that a tile contributes to along an axis, and their weights.

    Weights are 1 inside and fall linearly across the border of the core: those of two neighbours sum to 1.
    """
    core_start, core_end = tile.core_start * scale, tile.core_end * scale
    start, end = max(0, core_start - blend), min(length, core_end + blend)
    position = torch.arange(start, end, device=like.device, dtype=torch.float32) + 0.5
    weight = torch.ones_like(position)
    if core_start > 0 and blend:
        weight = ((position - (core_start - blend)) / (2 * blend)).clamp(0, 1)
    if core_end < length and blend:
        weight = weight * (((core_end + blend) - position) / (2 * blend)).clamp(0, 1)
    return start, end, weight
