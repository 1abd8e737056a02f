"""Means, inter-quartile means and bootstrap confidence intervals over source images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


Statistic = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]
"""A function of values (N,) and weights of samples (R, N), with one number for each resample, (R,)."""


class ClusterBootstrap:
    """Intervals of any statistics by one bootstrap over source images, whose draws all of them share.

    Args:
        images: Source image of each sample, as :attr:`opera_env.types.SampleSpec.source_image` has it.
        seed: Seed of the resampling.
        resamples: Number of resamples.
    """

    def __init__(
        self, images: Sequence[tuple[str, str | int]], seed: int = 0, resamples: int = 2000
    ) -> None:
        clusters = {image: number for number, image in enumerate(dict.fromkeys(images))}
        count = len(clusters)
        drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
        self._weights = drawn[:, [clusters[image] for image in images]].astype(float)
        self._count = count

    def interval(self, values: Sequence[float], statistic: Statistic) -> ConfidenceInterval:
        """Returns a statistic and its 95 % interval; samples whose value is NaN are left out.

        Args:
            values: One per sample.
            statistic: The statistic.
        """
        array = np.asarray(values, float)
        known = np.isfinite(array).astype(float)
        array = np.nan_to_num(array)
        centre = float(statistic(array, known[None])[0])
        if self._count < 2:
            return ConfidenceInterval(centre, float("nan"), float("nan"))
        drawn = statistic(array, self._weights * known)
        low, high = np.nanpercentile(drawn, [2.5, 97.5]) if np.isfinite(drawn).any() else (np.nan, np.nan)
        return ConfidenceInterval(centre, float(low), float(high))


def mean_over(strata: Sequence[str]) -> Statistic:
    """Returns the statistic that is the unweighted mean of the means of strata, such as combinations.

    Args:
        strata: Stratum of each sample. One that a resample does not have is left out of its mean.
    """
    names = np.unique(np.asarray(strata))
    members = (np.asarray(strata)[None] == names[:, None]).astype(float)

    def statistic(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
        counts = weights @ members.T
        sums = (weights * values) @ members.T
        means = np.divide(sums, counts, out=np.zeros_like(sums), where=counts > 0)
        return _divide(means.sum(1), (counts > 0).sum(1))

    return statistic


def interquartile_mean(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the mean of the middle half of the values, (R,).

    Args:
        values: (N,).
        weights: Weights of the values, (R, N).

    Example:
        >>> interquartile_mean(np.array([0.0, 1.0, 2.0, 90.0]), np.ones((1, 4))).tolist()
        [1.5]
    """
    order = np.argsort(values, kind="stable")
    weights = weights[:, order]
    upper = np.cumsum(weights, axis=1)
    total = upper[:, -1:]
    inside = np.clip(np.minimum(upper, 0.75 * total) - np.maximum(upper - weights, 0.25 * total), 0, None)
    return _divide((inside * values[order]).sum(1), inside.sum(1))


def _divide(numerator: NDArray[Any], denominator: NDArray[Any]) -> NDArray[np.float64]:
    """Returns the quotients; NaN for a denominator of 0."""
    undefined = np.full(numerator.shape, np.nan)
    return np.divide(numerator, denominator, out=undefined, where=denominator > 0)
