"""Evaluates a detector: what it recognises, what it misses, and how much damage that is.

Example:
    python -m opera_agents.detector.evaluate --detector runs/detector/detector.safetensors \
        --images bsds500/val

Without ``--images``, the photographs that come with scikit-image are used. For each degradation, the damage
is the PSNR that it costs: the PSNR of the sample without this degradation less that of the sample with it,
the others being the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich import box
from rich.table import Table
from torch import Tensor

from opera_agents.common.batches import label_targets
from opera_agents.common.folders import all_degradations, is_real
from opera_agents.common.runs import set_threads
from opera_agents.detector.scores import predict_logits, score_detections
from opera_agents.planner.saved import load_weights
from opera_env.cli.program import run_program
from opera_env.console import Console
from opera_env.data import list_samples, resolve_source
from opera_env.data.images import quantise, resize, to_array, to_tensor
from opera_env.degradations import (
    DEGRADATION_CLASSES,
    DEGRADATIONS,
    Degradation,
    DegradationType,
    benchmark_recipes,
    degrade,
)
from opera_env.encoder import Detector, make_encoder
from opera_env.errors import AgentError
from opera_env.evaluation.stats import bootstrap_interval, format_interval
from opera_env.files import atomic_write
from opera_env.json_files import read_object
from opera_env.settings import NonNegativeInt, PositiveInt, check_settings
from opera_env.types import Sample


@dataclass(frozen=True)
class EvaluateConfig:
    """Evaluates a detector on samples with the benchmark's recipes."""

    detector: Path
    """Weights of the detector, from opera_agents.detector.train, with its labels in a file of the same name
    and the suffix .json; without that file, the labels are the built-in degradations."""
    images: str | None = None
    """Folder of clean photographs, or real:FOLDER for damage as cameras make it; by default the photographs
    that come with scikit-image."""
    n: PositiveInt = 320
    """Number of samples."""
    canvas: PositiveInt = 128
    """Side of the square crops in pixels."""
    seed: NonNegativeInt = 0
    """Seed of the crops and degradations."""
    json: Path | None = None
    """JSON file for the results."""
    threads: PositiveInt = 1
    """Number of CPU threads."""
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    """Device of the detector."""

    def __post_init__(self) -> None:
        check_settings(self)


def damage(
    sample: Sample, label: str, degradations: Mapping[str, DegradationType] = DEGRADATION_CLASSES
) -> float:
    """Returns the PSNR in dB over RGB that one degradation of a sample costs.

    The others are the same with and without it, except for the noise that they draw.

    Args:
        sample: A sample with a recipe that has the degradation.
        label: The degradation.
        degradations: The known degradations by name; the built-in ones by default.
    """
    assert sample.reference is not None
    clean = to_array(sample.reference)
    rng = np.random.default_rng(sample.spec.seed)
    image, applied = degrade(clean, sample.spec.recipe, rng, degradations=degradations)
    without = _apply([degradation for degradation in applied if degradation.name != label], clean, rng)
    return _psnr(without, sample) - _psnr(image, sample)


def _apply(
    degradations: Sequence[Degradation], image: NDArray[np.uint8], rng: np.random.Generator
) -> NDArray[np.uint8]:
    for degradation in degradations:
        image = degradation(image, rng, None)
    return image


def _psnr(image: NDArray[np.uint8], sample: Sample) -> float:
    assert sample.reference is not None
    enlarged = quantise(resize(to_tensor(image)[None], sample.canvas)).float() / 255
    error = (enlarged[0] - sample.reference).square().mean().item()
    return -10 * float(np.log10(error + 1e-8))


def read_card(path: Path) -> tuple[tuple[str, ...], str, Tensor]:
    """Returns the labels of a detector, the kind of its encoder, and the thresholds of the labels.

    Args:
        path: What the training has written; without it, the detector has the built-in labels, and
            thresholds of 0.5.

    Raises:
        AgentError: If it is not the card of a detector.
    """
    if not path.is_file():
        return DEGRADATIONS, "image", torch.full((len(DEGRADATIONS),), 0.5)
    card = read_object(path, AgentError, "Train the detector again.")
    labels = card.names("labels")
    thresholds = torch.tensor(card.probabilities("thresholds", len(labels)))
    return labels, str(card.data.get("encoder", "image")), thresholds


def evaluate(config: EvaluateConfig) -> dict[str, Any]:
    """Evaluates a detector, prints tables and writes the results; returns them in JSON types.

    Raises:
        MissingWeightsError: If there are no such weights.
        AgentError: If they are not those of a detector.
    """
    set_threads(config.threads)
    labels, encoder, thresholds = read_card(config.detector.with_suffix(".json"))
    detector = Detector(len(labels), make_encoder(encoder)).eval()
    load_weights(detector, config.detector)
    source = resolve_source(config.images, config.canvas)
    folders = [] if config.images is None else [Path(config.images)]
    recipes = None if is_real(folders) else benchmark_recipes()
    samples = list(list_samples(source, config.n, recipes, np.random.default_rng(config.seed)))
    device = torch.device(config.device)
    logits, targets = predict_logits(detector.to(device), samples, device), label_targets(samples, labels)
    photographs = [sample.spec.source_image for sample in samples]
    results: dict[str, Any] = {"samples": len(samples), "photographs": len(set(photographs))}
    for name, threshold in {"0.5": 0.5, "fitted": thresholds}.items():
        scores = score_detections(logits, targets, threshold)
        exact = ((logits.sigmoid() > threshold) == targets.bool()).all(1).tolist()
        interval = bootstrap_interval([float(value) for value in exact], photographs)
        results[name] = scores.to_json() | {"exact_set_interval": asdict(interval)}
        print(
            f"thresholds {name}: exact set {format_interval(interval, 3)}, F1 {scores.f1:.3f}, "
            f"cross-entropy {scores.cross_entropy:.4f}, calibration error {scores.calibration_error:.3f}"
        )
    seen = logits.sigmoid().numpy() > thresholds.numpy()
    results["damage"] = damages(samples, labels, seen, all_degradations(folders))
    Console(highlight=False).print(damage_table(results))
    if config.json is not None:
        with atomic_write(config.json) as part:
            part.write_text(json.dumps(results, indent=2) + "\n")
    return results


def damages(
    samples: Sequence[Sample],
    labels: Sequence[str],
    predicted: NDArray[np.bool_],
    degradations: Mapping[str, DegradationType] = DEGRADATION_CLASSES,
) -> dict[str, dict[str, Any]]:
    """Returns, for each degradation, the number of samples and the mean damage of found and missed ones.

    Args:
        samples: The samples.
        labels: The degradations, in the order of the columns of ``predicted``.
        predicted: Whether each degradation is predicted, (N, K).
        degradations: The known degradations by name; the built-in ones by default.
    """
    results: dict[str, dict[str, Any]] = {}
    for column, label in enumerate(labels):
        kinds: dict[str, list[float]] = {"found": [], "missed": []}
        for row, sample in enumerate(samples):
            if label in sample.spec.recipe:
                kind = "found" if predicted[row, column] else "missed"
                kinds[kind].append(damage(sample, label, degradations))
        results[label] = {
            kind: {"samples": len(values), "db": float(np.mean(values)) if values else None}
            for kind, values in kinds.items()
        }
    return results


def damage_table(results: dict[str, Any]) -> Table:
    """Returns the table of recall, precision and damage of each degradation, with fitted thresholds."""
    table = Table("degradation", box=box.SIMPLE, padding=(0, 0, 0, 1))
    for column in ("recall", "precision", "found", "damage, dB", "missed", "damage, dB"):
        table.add_column(column, justify="right")
    scores = results["fitted"]
    rows = zip(results["damage"].items(), scores["recall"], scores["precision"], strict=True)
    for (label, kinds), recall, precision in rows:
        cells = ["-" if value is None else f"{value:.2f}" for value in (recall, precision)]
        for kind in ("found", "missed"):
            db = kinds[kind]["db"]
            cells += [str(kinds[kind]["samples"]), "-" if db is None else f"{db:.1f}"]
        table.add_row(label, *cells)
    return table


if __name__ == "__main__":
    run_program(EvaluateConfig, evaluate)
