"""How well a detector predicts which degradations an image has, and how reliable its probabilities are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from opera_agents.common.batches import label_targets, observe_sample
from opera_env.encoder import Detector, encode_by_size
from opera_env.files import atomic_write
from opera_env.types import Sample

_MAX_BATCH_PIXELS = 64 * 128 * 128
"""Number of pixels in a batch, which bounds the memory."""

NUM_BINS = 10
"""Number of bins of predicted probability in the calibration figure and error."""


@dataclass(frozen=True)
class DetectionScores:
    """The scores of a detector on samples.

    Attributes:
        cross_entropy: Mean binary cross-entropy over samples and labels, in nats.
        exact_set: Fraction of samples whose predicted set of degradations is the true one.
        f1: F1 over all samples and labels.
        recall: Recall of each label, (K,); NaN for a label that no sample has.
        precision: Precision of each label, (K,); NaN for a label that is never predicted.
        calibration_error: Expected calibration error: mean difference between probability and frequency
            in ten bins, weighted by their sizes.
    """

    cross_entropy: float
    exact_set: float
    f1: float
    recall: tuple[float, ...]
    precision: tuple[float, ...]
    calibration_error: float

    def to_json(self) -> dict[str, Any]:
        """Returns a dictionary of JSON types; NaN, which JSON does not have, becomes None."""

        def finite(values: tuple[float, ...]) -> list[float | None]:
            return [None if math.isnan(value) else value for value in values]

        return asdict(self) | {"recall": finite(self.recall), "precision": finite(self.precision)}


@torch.inference_mode()
def predict_logits(detector: Detector, samples: Sequence[Sample], device: torch.device) -> Tensor:
    """Returns the logits of the degradations of samples, whose sizes may differ, (N, K) on the CPU."""
    images = [observe_sample(sample).image for sample in samples]
    return encode_by_size(detector, images, device, _MAX_BATCH_PIXELS).float().cpu()


def score_detections(logits: Tensor, targets: Tensor, thresholds: Tensor | float = 0.5) -> DetectionScores:
    """Scores predictions.

    Args:
        logits: Logits of the labels, (N, K).
        targets: Whether each sample has each degradation, float (N, K) of zeros and ones.
        thresholds: Probability above which a label is predicted, one for all labels or (K,).
    """
    probabilities = logits.sigmoid()
    predicted, true = probabilities > thresholds, targets.bool()
    hits = (predicted & true).sum(0)
    recall, precision = hits / true.sum(0), hits / predicted.sum(0)
    total = int(predicted.sum() + true.sum())
    return DetectionScores(
        cross_entropy=F.binary_cross_entropy_with_logits(logits, targets).item(),
        exact_set=(predicted == true).all(1).float().mean().item(),
        f1=2 * int(hits.sum()) / total if total else 1.0,
        recall=tuple(recall.tolist()),
        precision=tuple(precision.tolist()),
        calibration_error=_calibration_error(probabilities.numpy(), true.numpy()),
    )


def score_samples(
    detector: Detector, samples: Sequence[Sample], labels: Sequence[str], device: torch.device
) -> DetectionScores:
    """Scores a detector on samples with known degradations."""
    return score_detections(predict_logits(detector, samples, device), label_targets(samples, labels))


def fit_thresholds(logits: Tensor, targets: Tensor) -> tuple[float, ...]:
    """Returns the probability threshold of each label with the highest F1 of that label.

    Args:
        logits: Logits of the labels on samples that nothing is reported on, (N, K).
        targets: Whether each sample has each degradation, float (N, K).
    """
    grid = torch.linspace(0.05, 0.95, 91)
    predicted = logits.sigmoid()[..., None] > grid
    true = targets.bool()[..., None]
    hits = (predicted & true).sum(0).float()
    f1 = 2 * hits / (predicted.sum(0) + true.sum(0)).clamp_min(1)
    # The middle of all best thresholds: few samples make plateaus.
    best = f1 >= f1.amax(1, keepdim=True) - 1e-6
    return tuple((best * grid).sum(1).div(best.sum(1)).tolist())


def calibration_bins(
    probabilities: NDArray[np.floating], true: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Returns mean probability, frequency and number of predictions of each of ten bins of probability.

    Args:
        probabilities: Predicted probabilities, of any shape.
        true: Whether the label is present, of the same shape.
    """
    bins = np.minimum((probabilities.ravel() * NUM_BINS).astype(int), NUM_BINS - 1)
    counts = np.bincount(bins, minlength=NUM_BINS)
    size = np.maximum(counts, 1)
    mean = np.bincount(bins, probabilities.ravel(), NUM_BINS) / size
    frequency = np.bincount(bins, true.ravel().astype(float), NUM_BINS) / size
    return mean, frequency, counts


def _calibration_error(probabilities: NDArray[np.floating], true: NDArray[np.bool_]) -> float:
    mean, frequency, counts = calibration_bins(probabilities, true)
    return float(np.average(np.abs(mean - frequency), weights=counts))


def plot_calibration(logits: Tensor, targets: Tensor, labels: Sequence[str], file: Path) -> None:
    """Draws how often a degradation is present against the probability that the detector gives it.

    Args:
        logits: Logits of the labels, (N, K).
        targets: Whether each sample has each degradation, float (N, K).
        labels: Names of the labels.
        file: PNG, SVG or PDF, by its suffix.
    """
    from matplotlib.figure import Figure  # importing matplotlib takes seconds

    probabilities, true = logits.sigmoid().numpy(), targets.bool().numpy()
    columns = 3
    rows = -(-(len(labels) + 1) // columns)
    figure = Figure(figsize=(2.6 * columns, 2.6 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    panels = [("all", probabilities, true)]
    panels += [(name, probabilities[:, k], true[:, k]) for k, name in enumerate(labels)]
    for panel, (name, probability, present) in zip(axes, panels, strict=False):
        mean, frequency, counts = calibration_bins(probability, present)
        panel.plot([0, 1], [0, 1], color="0.7", linewidth=1)
        panel.scatter(mean[counts > 0], frequency[counts > 0], s=4 + 60 * counts[counts > 0] / counts.max())
        panel.set_title(name.replace("_", " "), fontsize=9)
    for panel in axes[len(panels) :]:
        panel.set_axis_off()
    figure.supxlabel("predicted probability", fontsize=9)
    figure.supylabel("fraction of samples with the degradation", fontsize=9)
    with atomic_write(file) as part:
        figure.savefig(part, format=file.suffix.lstrip(".") or "png", dpi=130)
