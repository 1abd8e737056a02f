"""PIQE: the share of textured blocks that are noisy or have block artefacts."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from opera_env.metrics.base import Features, Metric
from opera_env.metrics.local_statistics import mscn

BLOCK = 16
"""Side of a block in pixels."""

_ACTIVE = 0.1
"""Variance above which a block counts as textured, and standard deviation below which a segment of its
border counts as constant."""

_SEGMENT_LENGTH = 6
"""Length of a segment of the border of a block, in pixels."""

_CENTRE = [7, 8]
_SURROUND = [column for column in range(BLOCK) if column not in (7, 9)]
"""Columns of a block that are compared; as in pyiqa, column 8 is in both lists and 9 in neither."""


class Piqe(Metric):
    """PIQE, 0 to 100; lower is better, and it is undefined for a black image.

    Source: Venkatanath et al. 2015 as in pyiqa's ``piqe``. Departures: the local mean is a separable
        filter, and the maps of the artefacts are not computed, which takes a quarter of the time.
    """

    name, higher_is_better, worst, min_side = "piqe", False, 100.0, 32
    concurrent = True

    def values(self, images: Tensor, reference: Features) -> Tensor:
        grey = (images * images.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
        grey = (255 * (grey / grey.amax(dim=(1, 2, 3), keepdim=True))).round()
        blocks = _blocks(mscn(_pad(grey))[0])
        variance, noisy = _texture(blocks)
        active = variance > _ACTIVE
        impaired = active & _has_straight_edge(blocks)
        distortion = torch.where(impaired, 1 - variance, 0) + torch.where(active & noisy, variance, 0)
        score = (distortion.sum(1) + 1) / (active.sum(1) + 1) * 100
        return torch.where(variance.isfinite().all(1), score, torch.nan)


def _pad(grey: Tensor) -> Tensor:
    """Pads to complete blocks by mirroring the incomplete rows and columns, as the MATLAB code does."""
    for axis in (2, 3):
        length = grey.shape[axis]
        if remainder := length % BLOCK:
            grey = torch.cat([grey, grey.narrow(axis, length - remainder, remainder).flip(axis)], dim=axis)
    return grey


def _blocks(x: Tensor) -> Tensor:
    """Cuts (B, 1, H, W) into blocks, (B, blocks, 16, 16)."""
    blocks = x[:, 0].unfold(1, BLOCK, BLOCK).unfold(2, BLOCK, BLOCK)
    return blocks.reshape(len(x), -1, BLOCK, BLOCK)


def _texture(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the variance of each block, and whether the block is noisy; both (B, blocks).

    A block is noisy if its standard deviation exceeds twice the relative difference between that deviation
    and the ratio of the standard deviations of its centre and its surround.
    """
    # Sums over columns: torch.var takes ten times as long on small blocks.
    total, squares = blocks.sum(2), blocks.square().sum(2)

    def variance_of(columns: list[int]) -> Tensor:
        count = len(columns) * BLOCK
        mean = total[..., columns].sum(-1) / count
        return (squares[..., columns].sum(-1) - count * mean.square()).clamp_min(0) / (count - 1)

    variance = variance_of(list(range(BLOCK)))
    deviation = variance.sqrt()
    ratio = (variance_of(_CENTRE).sqrt() / variance_of(_SURROUND).sqrt()).nan_to_num()
    return variance, deviation > 2 * (deviation - ratio).abs() / torch.maximum(deviation, ratio)


def _has_straight_edge(blocks: Tensor) -> Tensor:
    """Returns whether a segment of the border of each block is nearly constant: a block artefact."""
    sides = (blocks[:, :, 0], blocks[:, :, -1], blocks[..., 0], blocks[..., -1])
    border = torch.stack(sides, dim=2).reshape(-1, 1, BLOCK)
    border = border - border[..., :1]  # keeps the squares small, so that their sums stay exact
    mean, square = F.avg_pool1d(torch.cat([border, border.square()], dim=1), _SEGMENT_LENGTH, 1).unbind(1)
    variance = (square - mean.square()) * (_SEGMENT_LENGTH / (_SEGMENT_LENGTH - 1))
    return (variance < _ACTIVE**2).view(*blocks.shape[:2], -1).any(2)
