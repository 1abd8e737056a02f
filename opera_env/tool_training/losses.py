"""Losses of single tools: against the reference, and terms that need none."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

_EXPOSURE_CELL, _SPATIAL_CELL = 16, 4
"""Sides, in pixels, of the cells whose mean brightness is compared."""


def charbonnier(restored: Tensor, reference: Tensor, reduction: int = 1) -> Tensor:
    """Returns the Charbonnier loss, a smooth mean absolute error.

    Args:
        restored: float32 (B, 3, H, W).
        reference: The reference, of the same shape.
        reduction: Side, in pixels, of the cells whose means are compared. Above 1, noise that a tool leaves
            counts little.
    """
    if reduction > 1:
        restored, reference = F.avg_pool2d(restored, reduction), F.avg_pool2d(reference, reduction)
    return (F.mse_loss(restored, reference, reduction="none") + 1e-6).sqrt().mean()


@dataclass(frozen=True)
class ZeroReference:
    """Weights of the terms of a loss of exposure that need no reference.

    Attributes:
        exposure: Distance of the mean brightness of cells from :attr:`level`. Photographs to which nothing
            is to be done do not count, because a night is wanted dark.
        colour: Differences between the means of the channels.
        spatial: Change of the differences between neighbouring cells.
        smoothness: Differences between neighbouring tone curves.
        level: Brightness that is right, in [0, 1].

    Source: Guo et al., "Zero-Reference Deep Curve Estimation for Low-Light Image Enhancement", 2020.
    """

    exposure: float = 0.0
    colour: float = 0.0
    spatial: float = 0.0
    smoothness: float = 0.0
    level: float = 0.6


def zero_reference_loss(
    weights: ZeroReference, degraded: Tensor, restored: Tensor, curves: Tensor, damaged: Tensor
) -> Tensor:
    """Returns the weighted sum of the terms that need no reference.

    Args:
        weights: The weights.
        degraded: The input of the tool, float32 (B, 3, H, W).
        restored: Its result, of the same shape.
        curves: The tone curves, (B, C, G, G).
        damaged: bool (B,), False for photographs to which nothing is to be done.
    """
    grey, grey_before = (image.mean(1, keepdim=True) for image in (restored, degraded))
    cells = F.avg_pool2d(grey, min(_EXPOSURE_CELL, *grey.shape[-2:]))
    exposure = (cells - weights.level).abs().mean((1, 2, 3)) * damaged
    means = restored.mean((2, 3))
    colour = (means - means.roll(1, dims=1)).square().sum(1)
    spatial = sum(
        (after.abs() - before.abs()).square().mean()
        for after, before in zip(
            _differences(F.avg_pool2d(grey, _SPATIAL_CELL)),
            _differences(F.avg_pool2d(grey_before, _SPATIAL_CELL)),
            strict=True,
        )
    )
    smoothness = sum(difference.square().mean() for difference in _differences(curves))
    return (
        weights.exposure * exposure.mean()
        + weights.colour * colour.mean()
        + weights.spatial * spatial
        + weights.smoothness * smoothness
    )


def _differences(cells: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the differences between neighbours along both axes."""
    return torch.diff(cells, dim=-2), torch.diff(cells, dim=-1)
