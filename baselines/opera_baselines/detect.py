"""A degradation detector, followed by one tool for each detected degradation in domain order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from opera_baselines.order import domain_plan
from opera_env.degradations import DEGRADATIONS
from opera_env.encoder import Detector, encode_by_size, make_encoder
from opera_env.errors import MissingWeightsError, WeightsIntegrityError
from opera_env.tools import Toolbox
from opera_env.types import Decision, Observation
from opera_env.weights import load_tensors

SHIPPED_WEIGHTS = Path(__file__).with_name("detect.safetensors")
"""Weights of the trained detector that comes with this package."""

_MAX_BATCH_PIXELS = 64 * 128 * 128
"""Number of pixels in a batch of images, which bounds the memory."""


class Detect:
    """Plans as ``matched`` does, with detected instead of true degradations.

    Args:
        toolbox: The tools.
        max_tools: Maximum number of tools in a plan; longer plans are cut.
        threshold: Probability above which a degradation counts as present.
        path: Weights of an :class:`opera_env.encoder.Detector` as safetensors; by default the shipped
            ones. On the command line, ``detect:FILE``.
        degradations: Labels of the detector, in the order of its outputs, which is the order in which
            recipes apply them. The shipped detector knows the eight degradations of this package; a
            sample's other degradations are never detected.

    Attributes:
        degradations: The labels that this agent can name.

    Raises:
        MissingWeightsError: If there is no such file.
        WeightsIntegrityError: If the file does not hold a detector of these labels.
    """

    closed_loop = False

    def __init__(
        self,
        toolbox: Toolbox,
        max_tools: int = 6,
        threshold: float = 0.5,
        path: Path | str | None = None,
        degradations: Sequence[str] = DEGRADATIONS,
    ) -> None:
        self.toolbox = toolbox
        self.max_tools = max_tools
        self.threshold = threshold
        self.degradations = tuple(degradations)
        weights = SHIPPED_WEIGHTS if path is None else Path(path)
        detector = load_detector(weights, len(self.degradations))
        self.detector = detector.to(toolbox.device)

    def act(self, observations: Sequence[Observation]) -> list[Decision]:
        decisions: list[Decision] = []
        for row in self.probabilities([observation.image for observation in observations]):
            probabilities = dict(zip(self.degradations, row.tolist(), strict=True))
            detected = {name for name, value in probabilities.items() if value > self.threshold}
            plan = domain_plan(self.toolbox, detected, self.degradations)[: self.max_tools]
            decisions.append(Decision(plan, degradations=frozenset(detected), probabilities=probabilities))
        return decisions

    @torch.inference_mode()
    def probabilities(self, images: Sequence[Tensor]) -> Tensor:
        """Returns the probability of each degradation.

        Args:
            images: Images float32 (3, H, W) in [0, 1]; their sizes may differ.

        Returns:
            Probabilities float32 (B, number of labels).
        """
        if not images:
            return torch.empty(0, len(self.degradations))
        logits = encode_by_size(self.detector, images, self.toolbox.device, _MAX_BATCH_PIXELS)
        return logits.sigmoid().cpu()


def load_detector(path: Path, num_labels: int = len(DEGRADATIONS)) -> Detector:
    """Loads a detector in evaluation mode.

    Args:
        path: Weights as safetensors.
        num_labels: Number of labels of the detector.

    Raises:
        MissingWeightsError: If there is no such file.
        WeightsIntegrityError: If the file does not hold a detector of that many labels.
    """
    if not path.is_file():
        remedy = "a fresh copy of opera-env, or a trained Detector of your own: detect:FILE"
        raise MissingWeightsError("weights of the detector", path, remedy)
    weights = load_tensors(path)
    kind = "windows-1" if "encoder.mix.weight" in weights else "image"
    with torch.device("meta"):  # No initial weights are drawn, so the global generator stays as it is.
        detector = Detector(num_labels, make_encoder(kind))
    expected_shapes, loaded_shapes = _shapes(detector.state_dict()), _shapes(weights)
    for key in {**expected_shapes, **loaded_shapes}:
        if expected_shapes.get(key) != loaded_shapes.get(key):
            raise WeightsIntegrityError(
                path,
                f"a detector's weights with {key!r} of shape {expected_shapes.get(key)}",
                f"others with {key!r} of shape {loaded_shapes.get(key)}",
            )
    detector.load_state_dict({key: value.float() for key, value in weights.items()}, assign=True)
    return detector.eval().requires_grad_(False)


def _shapes(tensors: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(tensor.shape) for key, tensor in tensors.items()}
