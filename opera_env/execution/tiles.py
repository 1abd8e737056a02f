"""Large images in overlapping tiles: memory for one tile, and no seams.

A tile is a core and a margin around it. The outer part of the margin is context, as wide as
the tool looks, and is thrown away; across the inner part neighbouring tiles are blended, which
changes nothing where they agree and hides where they do not. What a network must know of the
whole image (:class:`opera_env.tools.global_context.GlobalContextNet`) it is told from an overview.
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

BLEND = 8
"""Half the width, in pixels, over which neighbouring tiles are blended."""

DEFAULT_HALO, DEFAULT_BLEND = 48, 16
"""Context and blending for a tool of which nobody has said how far it looks."""

MAX_STATISTICS_PIXELS, WINDOW = 1024 * 1024, 256
"""Most pixels that statistics of the whole image are taken from, and the side of their windows."""

OnTile = Callable[[int, int], None]
"""Told of tiles done and tiles in all."""


@dataclass(frozen=True)
class Tile:
    """One tile along one axis, in pixels of the image: ``first <= start < end <= last``.

    Attributes:
        start, end: The core; cores cover the axis without overlap.
        first, last: The core with its margin, as far as the image goes.
    """

    start: int
    end: int
    first: int
    last: int


def cut(length: int, side: int, margin: int, multiple: int) -> list[Tile]:
    """Cuts an axis into tiles of about equal size that begin at multiples.

    Args:
        length: Pixels along the axis.
        side: Longest tile, margins included.
        margin: Width of the margin, a multiple of ``multiple``.
        multiple: Tiles begin at multiples of this, as the network's grid does.

    Example:
        >>> [(tile.first, tile.start, tile.end, tile.last) for tile in cut(100, 64, 8, 4)]
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
    tool: Tool, image: Tensor, canvas: Canvas, tile_pixels: int, on_tile: OnTile | None = None
) -> Tensor:
    """Applies a tool to an image of any size.

    Args:
        tool: The tool.
        image: float32 (1, 3, H, W); left as it is.
        canvas: Size at which the image will be judged: decides for the whole image, not tile
            by tile, whether the tool enlarges it.
        tile_pixels: Most pixels of a tile, margin included. Never less than what gives
            a core as wide as its margins.
        on_tile: Told of the progress.

    Returns:
        What ``tool(image, canvas)`` returns: up to rounding if the tool looks no further than its
        halo; close to it otherwise.
    """
    height, width = image.shape[-2:]
    grow = tool.upscales((height, width), canvas)
    scale = tool.scale if grow else 1
    blend = DEFAULT_BLEND if tool.halo is None else min(BLEND, tool.halo)
    margin = (DEFAULT_HALO if tool.halo is None else tool.halo) + blend
    margin += 2 * (tool.scale > 1)  # bicubic resampling looks two pixels further
    margin += -margin % tool.multiple
    side = math.isqrt(tile_pixels)
    rows, columns = (cut(length, side, margin, tool.multiple) for length in (height, width))
    tiled = len(rows) * len(columns) > 1
    statistics = _statistics(tool, image, min(MAX_STATISTICS_PIXELS, tile_pixels)) if tiled else None
    result = image.new_zeros((1, 3, height * scale, width * scale))
    tiles = list(product(rows, columns))
    for done, (row, column) in enumerate(tiles):
        if on_tile is not None:
            on_tile(done, len(tiles))
        patch = image[..., row.first : row.last, column.first : column.last]
        restored = tool.apply(patch.clone(memory_format=torch.channels_last), grow, statistics)
        _add(result, restored, row, column, blend, scale)
    if on_tile is not None:
        on_tile(len(tiles), len(tiles))
    return result


def _statistics(tool: Tool, image: Tensor, most: int) -> tuple[Tensor, ...] | None:
    """What the tool's network knows of the whole image."""
    match tool.statistics_source:
        case "downscaled":
            image = smaller(image, most)
        case "windows":
            image = windows(image, most)
        case "full":
            pass
        case None:
            return None
    return tool.statistics(image)


def smaller(image: Tensor, most: int) -> Tensor:
    """Resamples an image (B, 3, H, W), so that it has at most about so many pixels."""
    height, width = image.shape[-2:]
    factor = min(1.0, math.sqrt(most / (height * width)))
    return resize(image, (max(1, round(height * factor)), max(1, round(width * factor))))


def windows(image: Tensor, most: int) -> Tensor:
    """Puts windows from all over an image side by side, as one smaller image.

    Args:
        image: (B, 3, H, W).
        most: Most pixels of the result.

    Example:
        >>> windows(torch.zeros(1, 3, 3000, 2000), 1024 * 1024).shape
        torch.Size([1, 3, 1280, 768])
    """
    height, width = image.shape[-2:]
    if height * width <= most:
        return image
    side = min(WINDOW, height, width, math.isqrt(most))
    count = most // side**2
    down = min(max(1, round(math.sqrt(count * height / width))), height // side, count)
    across = min(count // down, width // side)
    lefts = _spread(width, side, across)
    rows = [
        torch.cat([image[..., top : top + side, left : left + side] for left in lefts], dim=3)
        for top in _spread(height, side, down)
    ]
    return torch.cat(rows, dim=2)


def _spread(length: int, side: int, count: int) -> list[int]:
    """Where windows begin that are spread evenly along an axis."""
    return [int(length * (number + 0.5) / count - side / 2) for number in range(count)]


def _add(result: Tensor, restored: Tensor, row: Tile, column: Tile, blend: int, scale: int) -> None:
    """Adds a tile to the result, weighted so that all tiles together weigh one."""
    shape = result.shape[-2:]
    (top, bottom, down), (left, right, across) = (
        _weights(tile, blend * scale, length, scale, result)
        for tile, length in zip((row, column), shape, strict=True)
    )
    cropped = restored[
        ...,
        top - row.first * scale : bottom - row.first * scale,
        left - column.first * scale : right - column.first * scale,
    ]
    result[..., top:bottom, left:right] += cropped * down[:, None] * across


def _weights(tile: Tile, blend: int, length: int, scale: int, like: Tensor) -> tuple[int, int, Tensor]:
    """Where a tile counts along an axis of the result, and how much: ramps meet halfway."""
    start, end = tile.start * scale, tile.end * scale
    first, last = max(0, start - blend), min(length, end + blend)
    place = torch.arange(first, last, device=like.device, dtype=torch.float32) + 0.5
    weight = torch.ones_like(place)
    if start > 0 and blend:
        weight = ((place - (start - blend)) / (2 * blend)).clamp(0, 1)
    if end < length and blend:
        weight = weight * (((end + blend) - place) / (2 * blend)).clamp(0, 1)
    return first, last, weight
