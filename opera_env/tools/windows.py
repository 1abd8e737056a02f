"""Networks that take only some sizes: an image is restored in windows, and a batch in parts."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from opera_env.tools.padding import pad_to_multiple
from opera_env.types import Canvas

_MIN_WEIGHT = 1e-4
"""Weight of discarded pixels: they count where windows have too little overlap, and nowhere else."""


@dataclass(frozen=True)
class InputSizes:
    """The sizes of batches (B, 3, H, W) that a network takes.

    Attributes:
        fixed: The only height and the only width, in pixels; None for an axis of any length.
        multiple: Heights and widths are multiples of this number of pixels.
        minimum: Smallest height and width in pixels.
        maximum: Largest height and width in pixels; None without a limit.
        fixed_batch: The only number of images in a batch; None for any number.
        max_batch: Largest number of images in a batch; None without a limit.
    """

    fixed: tuple[int | None, int | None] = (None, None)
    multiple: int = 1
    minimum: int = 1
    maximum: tuple[int | None, int | None] = (None, None)
    fixed_batch: int | None = None
    max_batch: int | None = None

    def window(self, size: Canvas) -> Canvas:
        """Returns the height and width of the windows in which an image of a size is restored."""
        return (self._side(0, size[0]), self._side(1, size[1]))

    def _side(self, axis: int, length: int) -> int:
        fixed, maximum = self.fixed[axis], self.maximum[axis]
        if fixed is not None:
            return fixed
        return length if maximum is None else min(length, maximum - maximum % self.multiple)


def restore_in_windows(
    network: Callable[[Tensor], Tensor], image: Tensor, sizes: InputSizes, scale: int
) -> Tensor:
    """Calls a network with batches and windows of the sizes that it takes.

    Images that are smaller are padded. Windows overlap by a quarter or more. Of each overlap, the outer
    third of a window is discarded, because the network lacks context there, and the middle third is
    blended, so that no seam shows.

    Args:
        network: Maps (b, 3, h, w) to (b, 3, scale * h, scale * w).
        image: float32 (B, 3, H, W).
        sizes: The sizes that the network takes.
        scale: Factor by which it enlarges.

    Returns:
        float32 (B, 3, scale * H, scale * W); what the network returns where one window is the image.

    Raises:
        ValueError: If the network returns another size for a window.
    """
    least = tuple(side or sizes.minimum for side in sizes.fixed)
    padded = pad_to_multiple(image, 1, (least[0], least[1]))
    if padded is not image:
        height, width = image.shape[-2:]
        return restore_in_windows(network, padded, sizes, scale)[..., : height * scale, : width * scale]
    height, width = image.shape[-2:]
    window = sizes.window((height, width))
    if window == (height, width):
        return _restore_in_batches(network, image, sizes)
    result = image.new_zeros((*image.shape[:2], height * scale, width * scale))
    total = image.new_zeros((height * scale, width * scale))
    axes = [_split(*axis, sizes.multiple) for axis in zip((height, width), window, strict=True)]
    for (top, rows), (left, columns) in product(*axes):
        part = image[..., top : top + window[0], left : left + window[1]].contiguous()
        restored = _restore_in_batches(network, part, sizes)
        expected = (window[0] * scale, window[1] * scale)
        if tuple(restored.shape[-2:]) != expected:
            raise ValueError(
                f"expected {expected[0]} x {expected[1]} pixels for a window of {window[0]} x {window[1]}, "
                f"found {restored.shape[-2]} x {restored.shape[-1]}"
            )
        weights = _upscaled(rows, scale, image)[:, None] * _upscaled(columns, scale, image)
        bottom, right = (top + window[0]) * scale, (left + window[1]) * scale
        result[..., top * scale : bottom, left * scale : right] += restored * weights
        total[top * scale : bottom, left * scale : right] += weights
    return result / total


def _restore_in_batches(network: Callable[[Tensor], Tensor], images: Tensor, sizes: InputSizes) -> Tensor:
    count = len(images)
    size = sizes.fixed_batch or sizes.max_batch or count
    if count <= size and sizes.fixed_batch in (None, count):
        return network(images)
    results: list[Tensor] = []
    for start in range(0, count, size):
        part = images[start : start + size]
        missing = size - len(part) if sizes.fixed_batch else 0
        padded = torch.cat([part, part[-1:].expand(missing, -1, -1, -1)]) if missing else part
        results.append(network(padded)[: len(part)])
    return torch.cat(results)


def _split(length: int, side: int, multiple: int) -> list[tuple[int, Tensor]]:
    """Returns the first pixel of each window along an axis, and the weights of its pixels, (side,)."""
    starts = _starts(length, side, multiple)
    position = torch.arange(side) + 0.5
    windows: list[tuple[int, Tensor]] = []
    for before, start, after in zip([None, *starts], starts, [*starts[1:], None], strict=False):
        weights = torch.ones(side)
        if before is not None:
            weights = weights * _rise(position, before + side - start)
        if after is not None:
            weights = weights * _rise(side - position, start + side - after)
        windows.append((start, weights))
    return windows


def _rise(distance: Tensor, overlap: int) -> Tensor:
    """Returns weights of pixels by their distance from the end of a window: 0, a rise, then 1."""
    third = max(overlap, 1) / 3
    return ((distance - third) / third).clamp(_MIN_WEIGHT, 1)


def _starts(length: int, side: int, multiple: int) -> list[int]:
    """Returns the first pixels of windows that cover an axis.

    Example:
        >>> _starts(100, 64, 1), _starts(64, 64, 1)
        ([0, 36], [0])
    """
    if length <= side:
        return [0]
    steps = math.ceil((length - side) / max(1, side - side // 4 - multiple))
    starts = (round(step * (length - side) / steps) for step in range(steps + 1))
    return list(dict.fromkeys(start - start % multiple for start in starts))


def _upscaled(weights: Tensor, scale: int, like: Tensor) -> Tensor:
    return weights.repeat_interleave(scale).to(like)
