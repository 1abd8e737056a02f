"""Gaussian-weighted local means and normalisation, on which SSIM, NIQE and PIQE are based."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def gaussian_mean(x: Tensor, size: int, sigma: float) -> Tensor:
    """Computes Gaussian-weighted means over all square windows that lie inside the image.

    Args:
        x: float (B, 1, H, W).
        size: Side of the window in pixels, odd.
        sigma: Standard deviation of the Gaussian in pixels.

    Returns:
        float (B, 1, H - size + 1, W - size + 1).
    """
    offsets = torch.arange(size, device=x.device, dtype=x.dtype) - size // 2
    taps = torch.exp(-(offsets**2) / (2 * sigma**2))
    taps = taps / taps.sum()
    count = len(x)
    # The images become the channels of a depthwise convolution, which is many times faster on a CPU than a
    # batch of images with one channel.
    rows = taps.view(1, 1, size, 1).expand(count, 1, size, 1)
    columns = taps.view(1, 1, 1, size).expand(count, 1, 1, size)
    mean = F.conv2d(F.conv2d(x.transpose(0, 1), rows, groups=count), columns, groups=count)
    return mean.transpose(0, 1)


def mscn(y: Tensor) -> tuple[Tensor, Tensor]:
    """Computes mean-subtracted contrast-normalised (MSCN) coefficients.

    Args:
        y: float (B, 1, H, W), grey levels from 0 to 255.

    Returns:
        The coefficients ``(y - mean) / (deviation + 1)`` with the local mean and the local standard
        deviation, and the local standard deviation itself; both (B, 1, H, W).
    """
    level = y.mean(dim=(2, 3), keepdim=True).round()
    y = y - level  # keeps the squares small, so that float32 resolves small deviations
    padded = F.pad(torch.cat([y, y * y]), (3, 3, 3, 3), mode="replicate")
    means = gaussian_mean(padded, size=7, sigma=7 / 6)
    mean, square = means.chunk(2)
    deviation = ((square - mean * mean).abs() + torch.finfo(y.dtype).eps).sqrt()
    return (y - mean) / (deviation + 1), deviation
