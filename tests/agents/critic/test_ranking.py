"""Ranking metrics, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from opera_agents.critic.dataset import ScoredImages
from opera_agents.critic.ranking import ranking_metrics, ranking_metrics_per_sample

R_Q = np.array([9.8, 3.0, 5.0, 4.0, 7.0])
IS_REFERENCE = np.array([True, False, False, False, False])


def test_metrics_of_a_perfect_ranking() -> None:
    metrics = ranking_metrics(R_Q / 2, R_Q, IS_REFERENCE)
    assert (metrics.spearman, metrics.kendall) == pytest.approx((1, 1))
    assert (metrics.reference_first, metrics.regret) == (1, 0)


def test_metrics_of_an_imperfect_ranking_by_hand() -> None:
    """Two neighbours of four are swapped, the best one is missed, and the reference is second."""
    metrics = ranking_metrics(np.array([8.0, 1.0, 9.0, 2.0, 3.0]), R_Q, IS_REFERENCE)
    assert metrics.spearman == pytest.approx(1 - 6 * 2 / (4 * 15))
    assert metrics.kendall == pytest.approx(4 / 6)
    assert metrics.reference_first == 0
    assert metrics.regret == pytest.approx(2.0)


def test_constant_values_rank_nothing_and_a_tie_is_not_first() -> None:
    metrics = ranking_metrics(np.ones(5), R_Q, IS_REFERENCE)
    assert (metrics.spearman, metrics.kendall, metrics.reference_first) == (0, 0, 0)


def test_clean_samples_are_left_out() -> None:
    scored_images = ScoredImages(
        torch.zeros(6, 3, 4, 4, dtype=torch.uint8),
        torch.tensor([[9.0], [9.0], [2.0], [9.0], [1.0], [3.0]]),
        torch.tensor([0, 0, 0, 1, 1, 1]),
        torch.tensor([True, False, False, True, False, False]),
        ((), ("rain",)),
    )
    (metrics,) = ranking_metrics_per_sample(scored_images, scored_images.r_q.double().numpy())
    assert metrics.spearman == pytest.approx(1)
