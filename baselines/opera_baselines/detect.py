"""Sees for itself what is wrong with an image, then mends each thing once, in domain order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from opera_baselines.order import domain_plan
from opera_env.degradations import DEGRADATIONS
from opera_env.encoder import Detector
from opera_env.errors import MissingWeightsError, WeightsIntegrityError
from opera_env.tools import Toolbox
from opera_env.types import Decision, Observation
from opera_env.weights import load_tensors

WEIGHTS = Path(__file__).with_name("detect.safetensors")
"""The trained detector that comes with this package."""

_MAX_BATCH_PIXELS = 64 * 128 * 128
"""Images looked at together, in pixels, which bounds the memory."""


class Detect:
    """What ``matched`` is without being told: a classifier looks, the order is everybody's.

    Args:
        toolbox: The tools.
        max_tools: The plan is cut after this many.
        threshold: How probable a degradation must be to count as present.
        weights: Weights of a :class:`opera_env.encoder.Detector` of all degradations, as
            safetensors; the package's own by default.

    Raises:
        MissingWeightsError: If there is no such file.
        WeightsIntegrityError: If the file holds something else.
    """

    closed_loop = False

    def __init__(
        self, toolbox: Toolbox, max_tools: int = 6, threshold: float = 0.5, weights: Path | None = None
    ) -> None:
        self.toolbox = toolbox
        self.max_tools = max_tools
        self.threshold = threshold
        self.detector = load_detector(weights or WEIGHTS).to(toolbox.device)

    def act(self, observations: Sequence[Observation]) -> list[Decision]:
        decisions: list[Decision] = []
        for row in self.probabilities([observation.image for observation in observations]):
            probabilities = dict(zip(DEGRADATIONS, row.tolist(), strict=True))
            found = {name for name, probability in probabilities.items() if probability > self.threshold}
            plan = domain_plan(self.toolbox, found)[: self.max_tools]
            decisions.append(Decision(plan, degradations=frozenset(found), probabilities=probabilities))
        return decisions

    @torch.inference_mode()
    def probabilities(self, images: Sequence[Tensor]) -> Tensor:
        """Returns how probable each of :data:`DEGRADATIONS` is, (B, 8); sizes may differ."""
        by_size: dict[torch.Size, list[int]] = {}
        for index, image in enumerate(images):
            by_size.setdefault(image.shape, []).append(index)
        found = torch.empty(len(images), len(DEGRADATIONS))
        for (_, height, width), indices in by_size.items():
            most = max(1, _MAX_BATCH_PIXELS // (height * width))
            for rows in (indices[first : first + most] for first in range(0, len(indices), most)):
                batch = torch.stack([images[row] for row in rows]).to(self.toolbox.device)
                found[rows] = self.detector(batch).sigmoid().cpu()
        return found


def load_detector(path: Path) -> Detector:
    """Reads a detector of all degradations, ready to look."""
    if not path.is_file():
        remedy = "a fresh copy of opera-env, or a trained Detector of your own: Detect(..., weights=FILE)"
        raise MissingWeightsError("weights of the detector", path, remedy)
    with torch.device("meta"):  # draws no initial weights, so that no global generator moves
        detector = Detector(len(DEGRADATIONS))
    weights = load_tensors(path)
    expected, found = _shapes(detector.state_dict()), _shapes(weights)
    for key in {**expected, **found}:
        if expected.get(key) != found.get(key):
            raise WeightsIntegrityError(
                path,
                f"of a detector's weights with {key!r} of shape {expected.get(key)}",
                f"others with {key!r} of shape {found.get(key)}",
            )
    detector.load_state_dict({key: value.float() for key, value in weights.items()}, assign=True)
    return detector.eval().requires_grad_(False)


def _shapes(tensors: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(tensor.shape) for key, tensor in tensors.items()}
