"""The memory that the restoration of a photograph needs, and what a limit leaves to the tools."""

from __future__ import annotations

import psutil

from opera_env.errors import MemoryLimitError
from opera_env.tools import Toolbox
from opera_env.types import Canvas, Plan

LIBRARY_BYTES = 160 * 2**20
"""Bytes that the first use of a network occupies until the process ends, for example for kernels."""

SEARCH_CACHE_BYTES = 128 * 2**20
"""Bytes that the prefix cache of a search may hold."""

DEFAULT_MAX_MEMORY = 2_500_000_000
"""Bytes that the process may use where no limit is given."""

MIN_TILE_BYTES = 128 * 2**20
"""Bytes that the tools need at least, beside the images."""

_BYTES_PER_PIXEL = 3 * 4


def available_tile_memory(
    size: Canvas,
    scale: int,
    plan: Plan,
    toolbox: Toolbox,
    max_memory: int | None,
    base_memory: int,
) -> int:
    """Returns the bytes that the memory limit leaves to the tools beside the images.

    Args:
        size: Height and width of the photograph, in pixels.
        scale: Side of the result divided by the side of the photograph.
        plan: The plan to run.
        toolbox: The tools that the plan names.
        max_memory: The limit for the process; None for :data:`DEFAULT_MAX_MEMORY`, or for what is needed
            if half of the free memory is enough.
        base_memory: Bytes that the process needs whatever the photograph.

    Raises:
        MemoryLimitError: If less than :data:`MIN_TILE_BYTES` is left.
    """
    canvas = (size[0] * scale, size[1] * scale)
    needed = base_memory + LIBRARY_BYTES + _peak_pixels(size, canvas, plan, toolbox) * _BYTES_PER_PIXEL
    if max_memory is None:
        sufficient = min(needed + 2 * MIN_TILE_BYTES, psutil.virtual_memory().available // 2)
        max_memory = max(DEFAULT_MAX_MEMORY, sufficient)
    available = max_memory - needed
    if available < MIN_TILE_BYTES:
        raise MemoryLimitError(
            f"{size[1]} x {size[0]} pixels at scale {scale} need "
            f"{(needed + MIN_TILE_BYTES) / 1e9:.1f} GB, but only "
            f"{max_memory / 1e9:.1f} GB are allowed: raise --max-memory"
        )
    return available


def _peak_pixels(size: Canvas, canvas: Canvas, plan: Plan, toolbox: Toolbox) -> int:
    """Returns the most pixels of whole images that are held at once.

    These are the photograph, the input of a tool and its output. The photograph counts twice, because
    the pixels of its file are held beside it, and so does the result.
    """
    photograph = size[0] * size[1]
    peak = 2 * photograph
    for name in plan:
        input_pixels = size[0] * size[1]
        if toolbox[name].upscales(size, canvas):
            size = (size[0] * toolbox[name].scale, size[1] * toolbox[name].scale)
        peak = max(peak, input_pixels + size[0] * size[1])
    return photograph + max(peak, size[0] * size[1] + 2 * canvas[0] * canvas[1])
