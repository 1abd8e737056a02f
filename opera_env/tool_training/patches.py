"""Pairs of degraded and clean image patches, on which single tools are trained and validated."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from opera_env.data.images import to_tensor
from opera_env.errors import SampleError

Image = NDArray[np.uint8]
"""RGB, uint8 (H, W, 3)."""
Pair = tuple[Image, Image]
"""A degraded patch and the clean patch."""
DegradeFn = Callable[[Image, Generator], Image | Pair]
"""Degrades a clean image; may make it smaller. The generator is the only source of randomness.

Where the reference is another picture than the clean image, the degraded image and the reference."""


def degrade_pair(degrade: DegradeFn, image: Image, rng: Generator) -> Pair:
    """Returns the degraded image and its reference, by default the clean image itself."""
    result = degrade(image, rng)
    return result if isinstance(result, tuple) else (result, image)


def training_pair(
    images: Sequence[Image],
    degrade: DegradeFn,
    patch_size: int,
    margin: int,
    rng: Generator,
    flip_only: bool = False,
) -> Pair:
    """Draws a random patch of a random image, rotates and flips it, and degrades it.

    A crop that is larger than the patch by a margin is degraded, and the margin is cut off afterwards.
    Blur, rain and haze therefore depend on the surroundings of the patch, as in a whole image.

    Args:
        images: uint8 (H, W, 3) each, with sides of at least ``patch_size`` pixels.
        degrade: Degrades a clean image; may make it smaller.
        patch_size: Side of the clean patch in pixels, a multiple of 4.
        margin: Width of the margin in pixels, a multiple of 4; narrower where the image is too small.
        rng: The only source of randomness.
        flip_only: Whether patches are flipped horizontally but not rotated.

    Returns:
        The degraded patch, which is smaller if ``degrade`` makes images smaller, and the clean patch.

    Raises:
        SampleError: If the image is smaller than the patch.
    """
    image = images[int(rng.integers(len(images)))]
    _check_size(image, patch_size)
    height, width = (min(side - side % 4, patch_size + 2 * margin) for side in image.shape[:2])
    top = rng.integers(image.shape[0] - height + 1)
    left = rng.integers(image.shape[1] - width + 1)
    clean = image[top : top + height, left : left + width]
    clean = clean if flip_only else np.rot90(clean, int(rng.integers(4)))
    clean = clean[:, ::-1] if rng.random() < 0.5 else clean
    degraded, clean = degrade_pair(degrade, np.ascontiguousarray(clean), rng)
    factor = clean.shape[0] // degraded.shape[0]
    row, column = ((side - patch_size) // 8 * 4 for side in clean.shape[:2])
    return (
        degraded[
            row // factor : (row + patch_size) // factor, column // factor : (column + patch_size) // factor
        ],
        clean[row : row + patch_size, column : column + patch_size],
    )


def validation_pair(image: Image, degrade: DegradeFn, side: int, seed: int) -> Pair:
    """Returns the centre crop of an image, degraded without a margin as in the environment, and clean.

    Args:
        image: uint8 (H, W, 3).
        degrade: Degrades a clean image.
        side: Side of the crop in pixels.
        seed: Seed of the degradation.

    Raises:
        SampleError: If the image is smaller than the crop.
    """
    _check_size(image, side)
    top, left = ((length - side) // 2 for length in image.shape[:2])
    clean = np.ascontiguousarray(image[top : top + side, left : left + side])
    return degrade_pair(degrade, clean, np.random.default_rng(seed))


def _check_size(image: Image, side: int) -> None:
    if min(image.shape[:2]) < side:
        raise SampleError(
            f"expected images of at least {side} x {side} pixels, found one of {image.shape[1]} x "
            f"{image.shape[0]}, which is too small: leave it out, or choose smaller crops."
        )


def collate_by_size(pairs: Sequence[Pair]) -> list[tuple[Tensor, Tensor]]:
    """Stacks pairs to one batch for each size of degraded patch; see :func:`collate_pairs`."""
    by_size: dict[tuple[int, ...], list[Pair]] = {}
    for pair in pairs:
        by_size.setdefault(pair[0].shape, []).append(pair)
    return [collate_pairs(group) for group in by_size.values()]


def collate_pairs(pairs: Sequence[Pair]) -> tuple[Tensor, Tensor]:
    """Stacks pairs to a degraded batch, float32 (B, 3, h, w), and a clean batch (B, 3, H, W), in [0, 1]."""
    degraded, clean = zip(*pairs, strict=True)
    return (
        torch.stack([to_tensor(image) for image in degraded]),
        torch.stack([to_tensor(image) for image in clean]),
    )
