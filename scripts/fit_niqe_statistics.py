"""Fits the statistics of clean photographs that NIQE compares images with.

Example:
    python scripts/fit_niqe_statistics.py --images bsds500/train
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from rich.progress import track
from safetensors.torch import save_file
from torch import Tensor

from opera_env.command_line import parse_settings
from opera_env.data.images import list_images, read_image, to_tensor
from opera_env.files import atomic_write
from opera_env.metrics.niqe import PRISTINE_STATISTICS, mean_and_covariance, niqe_features


@dataclass(frozen=True)
class FitNIQEConfig:
    """Fits mean and covariance of the features of NIQE over the sharp blocks of clean photographs."""

    images: Path
    """Folder of clean photographs."""
    out: Path = PRISTINE_STATISTICS
    """File to write; by default the file of the package."""
    sharpness: float = 0.75
    """Smallest sharpness of a block that is used, relative to the sharpest block of its image."""


@torch.inference_mode()
def fit(config: FitNIQEConfig) -> None:
    """Writes the mean (36,) and the covariance (36, 36), float64, as safetensors."""
    sharp_features: list[Tensor] = []
    for path in track(list_images(config.images), description="NIQE statistics"):
        features, sharpness = niqe_features(to_tensor(read_image(path))[None])
        sharp_features.append(features[0][sharpness[0] > config.sharpness * sharpness.max()])
    mean, covariance = mean_and_covariance(torch.cat(sharp_features)[None])
    with atomic_write(config.out) as partial:
        save_file({"mean": mean[0].contiguous(), "covariance": covariance[0].contiguous()}, partial)
    print(f"{sum(map(len, sharp_features))} blocks of {len(sharp_features)} images -> {config.out}")


if __name__ == "__main__":
    fit(parse_settings(FitNIQEConfig))
