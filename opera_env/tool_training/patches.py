"""Pairs of degraded and clean patches for training single tools."""

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
Pair = tuple[Image, Image]
DegradeFn = Callable[[Image, Generator], Image]


def training_pair(
    images: Sequence[Image],
    degrade: DegradeFn,
    patch: int,
    margin: int,
    rng: Generator,
    upright: bool = False,
) -> Pair:
    """Cuts, turns and degrades a patch of a random image.

    A larger crop is degraded and its rim cut off, so that blur, rain and haze come from
    beyond the patch as they do in a whole photograph.

    Args:
        images: uint8 (H, W, 3), at least ``patch`` pixels a side.
        degrade: Makes a damaged image of a clean one; may make it smaller.
        patch: Side of the clean patch, a multiple of 4.
        margin: Width of the rim, a multiple of 4; less where the image ends.
        rng: The only source of chance.
        upright: Mirror patches, but do not turn them.

    Returns:
        The degraded and the clean patch; the first is smaller if degrading shrinks it.

    Raises:
        SampleError: If the image is smaller than the patch.
    """
    image = images[int(rng.integers(len(images)))]
    _check_size(image, patch)
    height, width = (min(side - side % 4, patch + 2 * margin) for side in image.shape[:2])
    top = rng.integers(image.shape[0] - height + 1)
    left = rng.integers(image.shape[1] - width + 1)
    clean = image[top : top + height, left : left + width]
    clean = clean if upright else np.rot90(clean, int(rng.integers(4)))
    clean = clean[:, ::-1] if rng.random() < 0.5 else clean
    dirty = degrade(np.ascontiguousarray(clean), rng)
    factor = clean.shape[0] // dirty.shape[0]
    row, column = ((side - patch) // 8 * 4 for side in clean.shape[:2])
    return (
        dirty[row // factor : (row + patch) // factor, column // factor : (column + patch) // factor],
        clean[row : row + patch, column : column + patch],
    )


def validation_pair(image: Image, degrade: DegradeFn, side: int, seed: int) -> Pair:
    """Degrades the centre crop of an image as the environment does: the crop is all there is."""
    _check_size(image, side)
    top, left = ((length - side) // 2 for length in image.shape[:2])
    clean = np.ascontiguousarray(image[top : top + side, left : left + side])
    return degrade(clean, np.random.default_rng(seed)), clean


def _check_size(image: Image, side: int) -> None:
    if min(image.shape[:2]) < side:
        raise SampleError(
            f"a photograph of {image.shape[1]} x {image.shape[0]} pixels is too small: patches have {side}."
        )


def collate_pairs(pairs: Sequence[Pair]) -> tuple[Tensor, Tensor]:
    """Stacks pairs into two float32 batches (B, 3, h, w) and (B, 3, H, W) in [0, 1]."""
    dirty, clean = zip(*pairs, strict=True)
    return torch.stack([to_tensor(image) for image in dirty]), torch.stack(
        [to_tensor(image) for image in clean]
    )
