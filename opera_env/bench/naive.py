"""The naive implementation: each plan from its beginning, one image at a time, pyiqa's own metrics."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from opera_env.data.images import quantise, resize
from opera_env.metrics.full_reference import luma
from opera_env.metrics.lpips_alex import LpipsAlex
from opera_env.metrics.niqe import BLOCK, Niqe32
from opera_env.tools import Toolbox
from opera_env.types import Plan, Sample

MetricsFn = Callable[[Tensor, Tensor], dict[str, float]]
"""Maps an image and its reference, float32 (1, 3, H, W) in [0, 1], to metric values by name."""


def pyiqa_metrics(device: torch.device) -> MetricsFn:
    """Returns the five metrics of the preset ``lite`` as pyiqa and lpips implement them.

    LPIPS runs the official network on both images, as pyiqa does. NIQE is pyiqa's function with blocks
    of 32 pixels and our statistics, because its own blocks do not fit a 128-pixel image.
    """
    import pyiqa  # takes seconds to import, so only where it is needed
    from pyiqa.archs.niqe_arch import niqe

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = {"device": device, "test_y_channel": True, "color_space": "ycbcr"}
        psnr, ssim = (pyiqa.create_metric(name, **options) for name in ("psnr", "ssim"))
        piqe = pyiqa.create_metric("piqe", device=device)
    lpips = LpipsAlex().to(device)
    mean, covariance = (statistic.double().to(device) for statistic in (Niqe32().mean, Niqe32().covariance))

    def compute_metrics(image: Tensor, reference: Tensor) -> dict[str, float]:
        y = luma(image).round().double()
        return {
            "psnr_y": float(psnr(image, reference)),
            "ssim_y": float(ssim(image, reference)),
            "lpips": float(lpips(image, reference)),
            "niqe32": float(niqe(y, mean, covariance, BLOCK, BLOCK)),  # type: ignore[no-untyped-call]
            "piqe": float(piqe(image)),
        }

    return compute_metrics


@torch.inference_mode()
def score_naively(
    toolbox: Toolbox, sample: Sample, plan: Plan, compute_metrics: MetricsFn
) -> dict[str, float]:
    """Runs one plan from its beginning and returns the metrics of the result."""
    image = sample.lq[None].to(toolbox.device)
    for name in plan:
        image = toolbox[name](image, sample.canvas)
    assert sample.reference is not None
    images = (resize(image, sample.canvas), sample.reference[None].to(toolbox.device))
    restored, reference = (quantise(image).float() / 255 for image in images)
    return compute_metrics(restored, reference)
