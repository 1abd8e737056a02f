"""PSNR, SSIM and LPIPS with the values of the usual implementations; reference features are reusable."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from opera_env.metrics.base import Features, Metric
from opera_env.metrics.local_statistics import gaussian_mean
from opera_env.metrics.lpips_alex import LpipsAlex


def luma(images: Tensor) -> Tensor:
    """Converts RGB, float32 (B, 3, H, W) in [0, 1], to the Y of BT.601 YCbCr, (B, 1, H, W) in [16, 235]."""
    weights = images.new_tensor([65.481, 128.553, 24.966]).view(1, 3, 1, 1)
    return (images * weights).sum(1, keepdim=True) + 16


def luma_yiq(images: Tensor) -> Tensor:
    """Converts RGB, float32 (B, 3, H, W) in [0, 1], to the Y of YIQ, (B, 1, H, W) in [0, 255]."""
    weights = images.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    return (images * weights).sum(1, keepdim=True) * 255


class PsnrRgb(Metric):
    """PSNR of the three colour channels together in dB.

    Source: ``pyiqa.create_metric("psnr")``; as there, equal images have 80 dB.
    """

    name, higher_is_better, worst, needs_reference = "psnr_rgb", True, 0.0, True
    concurrent = True

    def features(self, reference: Tensor) -> Features:
        return (reference,)

    def values(self, images: Tensor, reference: Features) -> Tensor:
        error = (images - reference[0]).square().mean(dim=(1, 2, 3))
        return -10 * torch.log10(error + 1e-8)


class PsnrY(Metric):
    """PSNR of the luma channel in dB.

    Source: ``pyiqa.create_metric("psnr", test_y_channel=True, color_space="ycbcr")``; as
        there, equal images have 80 dB.
    """

    name, higher_is_better, worst, needs_reference = "psnr_y", True, 0.0, True
    concurrent = True

    def features(self, reference: Tensor) -> Features:
        return (luma(reference),)

    def values(self, images: Tensor, reference: Features) -> Tensor:
        error = (luma(images) - reference[0]).square().mean(dim=(1, 2, 3))
        return 10 * torch.log10(255**2 / (error + 1e-8 * 255**2))


def _mean(x: Tensor) -> Tensor:
    """Returns the local means of SSIM, (B, 1, H, W) to (B, 1, H - 10, W - 10)."""
    return gaussian_mean(x, size=11, sigma=1.5)


class SsimY(Metric):
    """SSIM of the luma channel, with the usual 11 x 11 Gaussian window of standard deviation 1.5.

    Source: ``pyiqa.create_metric("ssim", test_y_channel=True, color_space="ycbcr")``.
        Departure: a separable filter in float32, which is several times faster and differs by less than
        5e-5.
    """

    name, higher_is_better, worst, needs_reference, min_side = "ssim_y", True, 0.0, True, 11
    concurrent = True
    _C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    _luma = staticmethod(luma)

    def features(self, reference: Tensor) -> Features:
        y = self._luma(reference).round()
        mean = _mean(y)
        return y, mean, _mean(y * y) - mean * mean

    def values(self, images: Tensor, reference: Features) -> Tensor:
        y_ref, mean_ref, variance_ref = reference
        y = self._luma(images).round()
        count = len(y)
        means = _mean(torch.cat([y, y * y, y * y_ref]))
        mean, square, product = means[:count], means[count : 2 * count], means[2 * count :]
        mean_product = mean * mean_ref
        mean_squares = mean * mean + mean_ref * mean_ref
        variance = square - mean * mean + variance_ref
        contrast = F.relu((2 * (product - mean_product) + self._C2) / (variance + self._C2))
        return ((2 * mean_product + self._C1) / (mean_squares + self._C1) * contrast).mean(dim=(1, 2, 3))


class SsimYiq(SsimY):
    """SSIM of the luma channel of YIQ, which has the full range of 8 bits; otherwise like :class:`SsimY`.

    Source: ``pyiqa.create_metric("ssim")``, whose luma channel is that of YIQ by default.
    """

    name = "ssim_yiq"
    _luma = staticmethod(luma_yiq)


class Gmsd(Metric):
    """Gradient magnitude similarity deviation; lower is better, and equal images have 0.

    Source: Xue et al., "Gradient Magnitude Similarity Deviation", 2014, on the luma of YIQ in whole grey
        levels, as ``pyiqa.create_metric("gmsd")``.
    """

    name, higher_is_better, worst, needs_reference, min_side = "gmsd", False, 0.35, True, 32
    concurrent = True

    def features(self, reference: Tensor) -> Features:
        return (_gradient_magnitude(reference),)

    def values(self, images: Tensor, reference: Features) -> Tensor:
        ours, theirs = _gradient_magnitude(images), reference[0]
        similarity = (2 * ours * theirs + _GMSD_CONSTANT) / (ours**2 + theirs**2 + _GMSD_CONSTANT)
        return similarity.flatten(1).std(dim=1)


_GMSD_CONSTANT = 170.0
"""Makes the similarity of flat regions 1; for grey levels from 0 to 255."""


def _gradient_magnitude(images: Tensor) -> Tensor:
    """Returns the size of Prewitt gradients at half the scale, (B, 3, H, W) to (B, 1, H // 2, W // 2)."""
    halved = F.avg_pool2d(luma_yiq(images).round(), 2)
    step, mean = images.new_tensor([1.0, 0.0, -1.0]), images.new_full((3,), 1 / 3)
    kernels = torch.stack([torch.outer(mean, step), torch.outer(step, mean)])[:, None]
    return (F.conv2d(halved, kernels, padding=1).square().sum(1, keepdim=True) + 1e-12).sqrt()


class Lpips(Metric):
    """LPIPS with AlexNet, version 0.1; lower is better, and identical images have 0.

    The weights come from ``opera-env weights fetch lpips``.

    Source: the ``lpips`` package. Departure: the features of a reference are computed once.
    """

    name, higher_is_better, worst, needs_reference, min_side = "lpips", False, 2.0, True, 32
    concurrent = True

    def __init__(self) -> None:
        self.net = LpipsAlex()

    def features(self, reference: Tensor) -> Features:
        return self.net.features(reference)

    def values(self, images: Tensor, reference: Features) -> Tensor:
        return self.net.distance(images, reference)
