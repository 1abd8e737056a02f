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
    """A mean and its 95 % confidence interval.

    Attributes:
        mean: The mean.
        low: Lower end of the interval; NaN if there is one source image only.
        high: Upper end of the interval; NaN if there is one source image only.
    """

    mean: float
    low: float
    high: float


def format_interval(interval: ConfidenceInterval, digits: int = 2, signed: bool = False) -> str:
    """Formats a mean and its interval.

    Args:
        interval: The mean and its interval.
        digits: Number of digits after the decimal point.
        signed: Whether the mean has a plus sign, as differences have.

    Example:
        >>> format_interval(ConfidenceInterval(0.34, -0.26, 0.931), signed=True)
        '+0.34 [-0.26, 0.93]'
    """
    mean, low, high = (
        round(value, digits) + 0.0 for value in (interval.mean, interval.low, interval.high)
    )  # adding zero turns -0.0 into 0.0
    sign = "+" if signed else ""
    return f"{mean:{sign}.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def bootstrap_interval(
    values: Sequence[float], images: Sequence[tuple[str, str | int]], seed: int = 0
) -> ConfidenceInterval:
    """Returns a mean and its 95 % interval by the cluster bootstrap over source images.

    Samples of one source image are not independent. Therefore source images are resampled, each with all
    of its samples.

    Args:
        values: One per sample; for a paired difference, the differences.
        images: Source image of each sample, as :attr:`opera_env.types.SampleSpec.source_image` has it.
        seed: Seed of the resampling.
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

    interval = bootstrap(
        (sums, counts), ratio, paired=True, method="percentile", rng=np.random.default_rng(seed)
    ).confidence_interval
    return ConfidenceInterval(mean, float(interval.low), float(interval.high))
