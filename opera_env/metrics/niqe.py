"""NIQE for small images, with natural-scene statistics that were fitted for this package.

``python scripts/fit_niqe_statistics.py`` fits the statistics to other photographs.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from opera_env.degradations.camera import bicubic_matrix
from opera_env.metrics.base import Features, Metric
from opera_env.metrics.full_reference import luma
from opera_env.metrics.local_statistics import mscn

BLOCK = 32
"""Side of a block in pixels at full resolution."""
PRISTINE_STATISTICS = Path(__file__).with_name("pristine_niqe32.safetensors")
"""Mean and covariance of the features of clean photographs."""


@cache
def _aggd_table() -> tuple[Tensor, Tensor]:
    """Shape parameters from 0.2 to 10, and the moment ratio of each, which increases with the parameter."""
    shape = torch.arange(0.2, 10.001, 0.001, dtype=torch.float64)
    ratio = (2 * torch.lgamma(2 / shape) - torch.lgamma(1 / shape) - torch.lgamma(3 / shape)).exp()
    return shape.float(), ratio.float()


def _fit_aggd(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Fits an asymmetric generalised Gaussian distribution to each row by moments.

    Args:
        x: float (N, pixels).

    Returns:
        The shape parameter alpha, and the left and the right scale, each (N,). They are not finite for a
        constant row. The nearest tabulated alpha is found by bisection.
    """
    shape, ratio = (table.to(x.device) for table in _aggd_table())
    norm = torch.linalg.vector_norm  # sums squares without storing them
    sign, left, right = x.sign(), x.clamp_max(0), x.clamp_min(0)
    balance, nonzero = sign.sum(1), norm(sign, dim=1).square().round()
    left_norm, right_norm = norm(left, dim=1), norm(right, dim=1)
    left_std = left_norm / ((nonzero - balance) / 2).sqrt()
    right_std = right_norm / ((nonzero + balance) / 2).sqrt()
    skew = left_std / right_std
    mean = (right.sum(1) - left.sum(1)) / x.shape[1]
    moments = mean.square() / ((left_norm.square() + right_norm.square()) / x.shape[1])
    target = moments * (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    above = torch.searchsorted(ratio, target.nan_to_num(0.0).contiguous()).clamp(1, len(ratio) - 1)
    nearer_below = (target - ratio[above - 1]) < (ratio[above] - target)
    alpha = shape[above - nearer_below.long()]
    spread = (0.5 * (torch.lgamma(1 / alpha) - torch.lgamma(3 / alpha))).exp()
    return alpha, left_std * spread, right_std * spread


def _block_features(y: Tensor, block: int) -> Tensor:
    """Computes 18 features of each block of MSCN coefficients, (B, 1, H, W) to (B, blocks, 18)."""
    blocks = F.unfold(y, block, stride=block).transpose(1, 2).reshape(-1, block, block)
    products = [blocks * blocks.roll(shift, dims=(1, 2)) for shift in ((0, 1), (1, 0), (1, 1), (1, -1))]
    # One fit of all rows together, because a fit consists of many small operations.
    parameters = _fit_aggd(torch.cat([blocks, *products]).flatten(1))
    alpha, left, right = (values.view(5, -1) for values in parameters)
    mean = (right - left) * (torch.lgamma(2 / alpha) - torch.lgamma(1 / alpha)).exp()
    block_features = torch.stack([alpha[0], (left[0] + right[0]) / 2], dim=1)
    product_features = torch.stack([alpha[1:], mean[1:], left[1:], right[1:]], dim=0)
    product_features = product_features.permute(2, 1, 0).flatten(1)
    return torch.cat([block_features, product_features], dim=1).view(len(y), -1, 18)


def _halve(y: Tensor) -> Tensor:
    """Halves height and width of (B, 1, H, W) as MATLAB's ``imresize`` does."""
    row_weights, column_weights = (torch.from_numpy(bicubic_matrix(side, 2)).to(y) for side in y.shape[-2:])
    return row_weights @ y @ column_weights.T


def niqe_features(images: Tensor, block: int = BLOCK) -> tuple[Tensor, Tensor]:
    """Computes the features of NIQE for every complete block, at full and at half resolution.

    Args:
        images: float32 (B, 3, H, W) in [0, 1].
        block: Side of a block in pixels at full resolution; half of that at half resolution.

    Returns:
        The features (B, blocks, 36), which are not finite for constant blocks; and the sharpness of each
        block, its mean local standard deviation (B, blocks).
    """
    y = luma(images).round()
    rows, columns = y.shape[-2] // block * block, y.shape[-1] // block * block
    y = y[..., :rows, :columns]
    normalised, deviation = mscn(y)
    sharpness = F.avg_pool2d(deviation, block).flatten(1)
    half, _ = mscn(_halve(y))
    features = [_block_features(normalised, block), _block_features(half, block // 2)]
    return torch.cat(features, dim=2), sharpness


def mean_and_covariance(features: Tensor) -> tuple[Tensor, Tensor]:
    """Computes the mean of the finite values and the covariance of the finite blocks, in float64.

    Args:
        features: float (B, blocks, 36).

    Returns:
        The mean (B, 36) and the covariance (B, 36, 36).
    """
    features = features.double()
    finite = features.isfinite()
    mean = torch.where(finite, features, 0).sum(1) / finite.sum(1)
    valid = finite.all(dim=2, keepdim=True)
    count = valid.sum(1)[..., None]
    clean = torch.where(valid, features, 0)
    centred = torch.where(valid, clean - clean.sum(1, keepdim=True) / count, 0)
    return mean, centred.transpose(1, 2) @ centred / (count - 1)


class Niqe32(Metric):
    """NIQE with blocks of 32 pixels, which suit crops of 128 pixels; lower is better.

    Source: Mittal et al. 2013 as in pyiqa's ``niqe`` on the luma of BT.601. Departures: blocks of 32
        instead of 96 pixels; statistics of other clean photographs; the shape parameter is found by
        bisection; a constant image gets the worst value instead of an error for the whole batch.
    """

    name, higher_is_better, worst, min_side = "niqe32", False, 30.0, 64
    concurrent = True

    def __init__(self) -> None:
        statistics = load_file(PRISTINE_STATISTICS)
        self.mean, self.covariance = statistics["mean"], statistics["covariance"]

    def values(self, images: Tensor, reference: Features) -> Tensor:
        mean, covariance = mean_and_covariance(niqe_features(images)[0])
        defined = covariance.isfinite().all(dim=(1, 2))
        pooled = (torch.where(defined[:, None, None], covariance, 0) + self.covariance.to(mean)) / 2
        difference = torch.where(defined[:, None], mean, torch.nan) - self.mean.to(mean)
        distance = (difference * torch.linalg.solve(pooled, difference)).sum(1)
        return distance.clamp_min(0).sqrt().float()
