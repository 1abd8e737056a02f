"""Means and bootstrap confidence intervals over source images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap


@dataclass(frozen=True)
class ConfidenceInterval:
    """A mean and its 95 % confidence interval."""

    mean: float
    low: float
    high: float


def bootstrap_interval(
    values: Sequence[float], images: Sequence[tuple[str, int]], seed: int = 0
) -> ConfidenceInterval:
    """Bootstraps a mean over source images: samples of one photograph are not independent.

    Args:
        values: One per sample; for a paired difference, the differences.
        images: Which photograph each sample is made of.
        seed: Of the resampling.
    """
    clusters = {image: number for number, image in enumerate(dict.fromkeys(images))}
    rows = np.array([clusters[image] for image in images])
    sums = np.bincount(rows, weights=np.asarray(values, float))
    counts = np.bincount(rows).astype(float)
    mean = float(sums.sum() / counts.sum())
    if len(sums) < 2:
        return ConfidenceInterval(mean, float("nan"), float("nan"))

    def ratio(total: NDArray[np.float64], count: NDArray[np.float64], axis: int = -1) -> Any:
        return total.sum(axis) / count.sum(axis)

    found = bootstrap(
        (sums, counts), ratio, paired=True, method="percentile", rng=np.random.default_rng(seed)
    ).confidence_interval
    return ConfidenceInterval(mean, float(found.low), float(found.high))
