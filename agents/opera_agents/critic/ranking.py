"""How well a metric without reference ranks the results of a photograph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau, spearmanr

from opera_agents.critic.dataset import ScoredImages


@dataclass(frozen=True)
class RankingMetrics:
    """Ranking quality of a metric on the results of one photograph.

    Attributes:
        spearman: Spearman's rank correlation with R_q over the results.
        kendall: Kendall's rank correlation with R_q over the results.
        reference_first: 1 if the reference has a higher value than every result, else 0.
        regret: R_q of the best result less R_q of the result with the highest value.
    """

    spearman: float
    kendall: float
    reference_first: float
    regret: float


def ranking_metrics(
    values: NDArray[np.float64], r_q: NDArray[np.float64], is_reference: NDArray[np.bool_]
) -> RankingMetrics:
    """Compares a metric's values with R_q on the images of one photograph.

    Args:
        values: Values of the metric, (N,); higher is better.
        r_q: R_q, (N,).
        is_reference: Whether an image is the reference, (N,).
    """
    predicted, target = values[~is_reference], r_q[~is_reference]
    defined = np.ptp(predicted) > 0 and np.ptp(target) > 0  # Constant values have no ranks.
    spearman: Any = spearmanr(predicted, target) if defined else None  # SciPy's types lack the result.
    kendall: Any = kendalltau(predicted, target) if defined else None
    return RankingMetrics(
        spearman=float(spearman.statistic) if defined else 0.0,
        kendall=float(kendall.statistic) if defined else 0.0,
        reference_first=float(values[is_reference].min() > predicted.max()),
        regret=float(target.max() - target[predicted.argmax()]),
    )


def ranking_metrics_per_sample(
    scored_images: ScoredImages, values: NDArray[np.float64]
) -> list[RankingMetrics]:
    """Returns the ranking metrics of each degraded sample; clean samples are left out."""
    metrics: list[RankingMetrics] = []
    for index, recipe in enumerate(scored_images.recipes):
        if recipe:
            rows = (scored_images.sample_index == index).numpy()
            r_q = scored_images.r_q.numpy().astype(np.float64)
            metrics.append(
                ranking_metrics(values[rows], r_q[rows], scored_images.is_reference.numpy()[rows])
            )
    return metrics


def paired_differences(
    first: Sequence[RankingMetrics], second: Sequence[RankingMetrics]
) -> list[RankingMetrics]:
    """Subtracts the ranking metrics of the same photographs."""
    pairs = zip(first, second, strict=True)
    return [
        RankingMetrics(*np.subtract(astuple(first_metrics), astuple(second_metrics)).tolist())
        for first_metrics, second_metrics in pairs
    ]
