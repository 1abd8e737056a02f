"""Scores of detections against values worked out by hand, thresholds and calibration."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from opera_agents.detector.scores import (
    calibration_bins,
    fit_thresholds,
    plot_calibration,
    score_detections,
)


def test_scores_equal_values_by_hand() -> None:
    logits = torch.tensor([[2.0, -2.0], [2.0, 2.0], [-2.0, -2.0]])
    targets = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    scores = score_detections(logits, targets)
    assert scores.exact_set == pytest.approx(1 / 3)
    assert scores.f1 == pytest.approx(2 * 2 / (3 + 3))
    assert scores.recall[0] == pytest.approx(2 / 3)
    assert np.isnan(scores.recall[1]), "no sample has the label"
    assert scores.precision == (1.0, 0.0)
    right, wrong = np.log1p(np.exp(-2)), np.log1p(np.exp(2))
    assert scores.cross_entropy == pytest.approx((4 * right + 2 * wrong) / 6)


def test_perfect_predictions_of_clean_images() -> None:
    scores = score_detections(torch.full((4, 3), -9.0), torch.zeros(4, 3))
    assert (scores.exact_set, scores.f1) == (1.0, 1.0)
    assert scores.calibration_error < 1e-3


def test_thresholds_separate_the_labels_where_their_logits_do() -> None:
    torch.manual_seed(0)
    targets = torch.rand(400, 2).lt(0.5).float()
    logits = 4 * (targets - 0.5) + torch.tensor([2.5, -2.5])  # both are biased
    thresholds = torch.tensor(fit_thresholds(logits, targets))
    assert score_detections(logits, targets).exact_set < 1
    assert score_detections(logits, targets, thresholds).exact_set == 1


def test_calibrated_probabilities_have_no_error_and_overconfident_ones_do() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.random((20_000, 1))
    true = torch.from_numpy((rng.random((20_000, 1)) < probabilities).astype(np.float32))
    logits = torch.logit(torch.from_numpy(probabilities).float())
    assert score_detections(logits, true).calibration_error < 0.02
    assert score_detections(4 * logits, true).calibration_error > 0.08
    mean, frequency, counts = calibration_bins(probabilities, true.bool().numpy())
    assert counts.sum() == 20_000
    assert np.abs(mean - frequency).max() < 0.05


def test_the_calibration_figure_has_a_panel_for_each_label(tmp_path: Path) -> None:
    torch.manual_seed(0)
    file = tmp_path / "calibration.png"
    plot_calibration(torch.randn(50, 4), torch.rand(50, 4).round(), list("abcd"), file)
    assert Image.open(file).size[0] > 500
