"""Decides how many workers score results, and which results are scored together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch

from opera_env.execution.run import ExecutionResult
from opera_env.execution.tool_runner import MAX_UNTILED_PIXELS
from opera_env.execution.worker_pool import MAX_WORKERS
from opera_env.types import Canvas, Sample

_MIN_BATCH_SIZE = 4
"""Smallest batch that is formed to keep more workers busy."""


def count_workers(samples: Sequence[Sample], device: torch.device) -> int:
    """Returns the number of batches to process in parallel: several for small images on a CPU, else one.

    Args:
        samples: The samples whose results are scored.
        device: Device of the tools and metrics.
    """
    small = all(sample.canvas[0] * sample.canvas[1] <= MAX_UNTILED_PIXELS for sample in samples)
    if device.type != "cpu" or len(samples) < 2 or not small:
        return 1
    return min(MAX_WORKERS, torch.get_num_threads())


def batch_by_canvas(
    results: Iterable[ExecutionResult], batch_pixels: int, num_plans: int, num_workers: int
) -> Iterator[list[ExecutionResult]]:
    """Groups results of one canvas into batches, and yields each batch as soon as it is full.

    Args:
        results: The results, in any order.
        batch_pixels: Maximum number of pixels in a batch at canvas size, all images together.
        num_plans: Number of plans that the results come from.
        num_workers: Number of batches that are processed in parallel. Batches are smaller where full ones
            would leave workers idle.
    """
    pending: dict[Canvas, list[ExecutionResult]] = {}
    for result in results:
        canvas = result.sample.canvas
        pending.setdefault(canvas, []).append(result)
        if len(pending[canvas]) >= _batch_size(canvas, batch_pixels, num_plans, num_workers):
            yield pending.pop(canvas)
    yield from pending.values()


def _batch_size(canvas: Canvas, batch_pixels: int, num_plans: int, num_workers: int) -> int:
    size = max(1, batch_pixels // (canvas[0] * canvas[1]))
    if num_workers == 1:
        return size
    return min(size, max(_MIN_BATCH_SIZE, -(-num_plans // (2 * num_workers))))
