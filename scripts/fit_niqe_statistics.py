"""Fits the natural-scene statistics that NIQE compares with.

Example:
    python scripts/fit_niqe_statistics.py --images bsds500/train
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from rich.progress import track
from safetensors.torch import save_file
from torch import Tensor

from opera_env.data.images import list_images, read_image, to_tensor
from opera_env.files import atomic_write
from opera_env.metrics.niqe import PRISTINE_STATISTICS, mean_and_covariance, niqe_features


@dataclass(frozen=True)
class FitConfig:
    """Fits mean and covariance of NIQE's features over the sharp blocks of clean photographs."""

    images: Path
    """Folder of clean photographs."""
    out: Path = PRISTINE_STATISTICS
    """File to write; the package's own by default."""
    sharpness: float = 0.75
    """Blocks at least this sharp, relative to the sharpest of their image, are used."""


@torch.inference_mode()
def fit(config: FitConfig) -> None:
    """Writes mean (36,) and covariance (36, 36), float64, as safetensors."""
    kept: list[Tensor] = []
    for path in track(list_images(config.images), description="pristine statistics"):
        features, sharpness = niqe_features(to_tensor(read_image(path))[None])
        kept.append(features[0][sharpness[0] > config.sharpness * sharpness.max()])
    mean, covariance = mean_and_covariance(torch.cat(kept)[None])
    with atomic_write(config.out) as partial:
        save_file({"mean": mean[0].contiguous(), "covariance": covariance[0].contiguous()}, partial)
    print(f"{sum(map(len, kept))} blocks of {len(kept)} images -> {config.out}")


if __name__ == "__main__":
    fit(tyro.cli(FitConfig))
