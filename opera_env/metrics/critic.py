"""The critic: a small network that predicts the reward R_q of an image without its reference.

``python -m opera_agents.critic.train`` trains a critic, for example for other tools or another reward.
"""

from __future__ import annotations

import json
import reprlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from opera_env.encoder import ImageEncoder
from opera_env.errors import MetricError, MissingWeightsError
from opera_env.hub import HubMixin, pretrained_folder
from opera_env.json_files import parse_object
from opera_env.metrics.base import Features, Metric
from opera_env.metrics.niqe import Niqe32
from opera_env.metrics.piqe import Piqe
from opera_env.weights.checkpoints import load_as_float32, save_half

SHIPPED_CRITIC = Path(__file__).with_name("critic.safetensors")
"""The critic of the package: R_q of the preset ``lite``, trained on results of the toolbox ``lite``."""

NO_REFERENCE_METRICS: Mapping[str, Callable[[], Metric]] = {"niqe32": Niqe32, "piqe": Piqe}
"""Metrics of the reward that need no reference: the critic computes them instead of predicting them."""


class CriticNet(nn.Module):
    """Predicts the contribution of each term of the reward, for images of any size.

    The terms contain more information about an image than their sum, so a network with one output for each
    term needs less training.

    Args:
        max_contributions: Largest contribution of each term; by default those of the preset ``lite``.
        encoder: The image encoder; by default a new one.

    Shape:
        float32 (B, 3, H, W) in [0, 1] to float32 (B, terms), each between 0 and its largest contribution.

    Example:
        >>> CriticNet()(torch.zeros(2, 3, 37, 53)).shape
        torch.Size([2, 5])
    """

    max_contributions: Tensor

    def __init__(
        self,
        max_contributions: Sequence[float] = (3.0, 2.5, 2.5, 1.0, 1.0),
        encoder: ImageEncoder | None = None,
    ) -> None:
        super().__init__()
        self.register_buffer("max_contributions", torch.tensor(max_contributions), persistent=False)
        self.encoder = encoder or ImageEncoder()
        width = self.encoder.features_dim
        self.head = nn.Sequential(
            nn.Linear(width, width // 2), nn.ReLU(), nn.Linear(width // 2, len(max_contributions))
        )

    def forward(self, images: Tensor) -> Tensor:
        """Returns the predicted contribution of each term; their sum is the predicted R_q."""
        return self.max_contributions * self.head(self.encoder(images)).sigmoid()


@dataclass(frozen=True)
class CriticTerm:
    """One term of the reward that a critic predicts; see :class:`opera_env.reward.RewardTerm`.

    Attributes:
        metric: Name of the metric.
        low: Metric value whose contribution is 0.
        high: Metric value whose contribution is ``weight``.
        weight: Largest contribution.
    """

    metric: str
    low: float
    high: float
    weight: float

    def contribution(self, values: Tensor) -> Tensor:
        """Returns the contribution of each metric value, clipped to [0, ``weight``]; (B,) to (B,)."""
        return self.weight * ((values - self.low) / (self.high - self.low)).clamp(0, 1)


class Critic(Metric, HubMixin):
    """The predicted R_q of an image, 0 to 10; higher is better.

    The network predicts the terms that need a reference. NIQE and PIQE need none: they are computed if the
    image is large enough for them, and predicted otherwise. The network was trained on images of at most
    128 x 128 pixels; for larger images it averages its features over the whole image.

    Args:
        weights: A file that :func:`save_critic` has written.

    Raises:
        MissingWeightsError: If there is no such file.
        MetricError: If the file does not hold a critic.
    """

    name, higher_is_better, worst, min_side = "critic", True, 0.0, 16
    concurrent = True

    def __init__(self, weights: Path = SHIPPED_CRITIC) -> None:
        self.weights = weights
        self.net, self.terms = load_critic(weights)
        self.no_reference_metrics = {
            column: NO_REFERENCE_METRICS[term.metric]()
            for column, term in enumerate(self.terms)
            if term.metric in NO_REFERENCE_METRICS
        }

    @classmethod
    def from_pretrained(
        cls, name_or_folder: str | Path, *, revision: str | None = None, endpoint: str | None = None
    ) -> Critic:
        """Loads a critic from the Hugging Face hub, or from a folder with ``critic.safetensors``.

        Args:
            name_or_folder: A repository, ``owner/name``, or a folder; a folder takes precedence.
            revision: Branch, tag or commit of the repository.
            endpoint: Address of the hub.

        Raises:
            HubError: If there is no such repository, or it holds something else.
            MissingWeightsError: If the folder has no such file.
        """
        return cls(Path(pretrained_folder(name_or_folder, revision, endpoint)) / SHIPPED_CRITIC.name)

    def save_pretrained(self, folder: Path) -> None:
        shutil.copyfile(self.weights, folder / SHIPPED_CRITIC.name)

    def values(self, images: Tensor, reference: Features) -> Tensor:
        columns = list(self.net(images).unbind(1))
        for column, metric in self.no_reference_metrics.items():
            if min(images.shape[-2:]) >= metric.min_side:
                values = metric.values(images, ())
                values = torch.where(values.isfinite(), values, metric.worst)
                columns[column] = self.terms[column].contribution(values)
        return torch.stack(columns).sum(0)


def save_critic(
    net: CriticNet, terms: Sequence[CriticTerm], path: Path, training_info: Mapping[str, Any]
) -> None:
    """Writes a critic as float16 safetensors, atomically.

    Args:
        net: The network.
        terms: The terms of the reward that it predicts, in order.
        path: The file.
        training_info: How the critic was trained, in JSON types; stored in the metadata of the file.
    """
    metadata = {
        "terms": json.dumps([asdict(term) for term in terms]),
        "training": json.dumps(training_info),
    }
    save_half(net.state_dict(), path, metadata)


def _read_terms(text: str, path: Path) -> tuple[CriticTerm, ...]:
    """Reads the terms from the metadata of a critic's file."""
    label, remedy = f"{path}: terms", "Train a critic with python -m opera_agents.critic.train."
    document = parse_object(f'{{"terms": {text}}}', label, MetricError, remedy)
    terms = tuple(
        CriticTerm(
            metric=term.text("metric"),
            low=term.number("low"),
            high=term.number("high"),
            weight=term.number("weight"),
        )
        for term in document.objects("terms", 64)
    )
    if not terms or any(term.low == term.high for term in terms):
        document.fail(f"expected at least one term, and bounds that differ, found {reprlib.repr(terms)}")
    return terms


def load_critic(path: Path) -> tuple[CriticNet, tuple[CriticTerm, ...]]:
    """Reads a file that :func:`save_critic` has written.

    Args:
        path: The file.

    Returns:
        The network, frozen and in evaluation mode, and the terms that it predicts.

    Raises:
        MissingWeightsError: If there is no such file.
        MetricError: If the file does not hold a critic.
    """
    if not path.is_file():
        raise MissingWeightsError("a trained critic", path, "python -m opera_agents.critic.train --help")
    tensors = load_as_float32(path)
    try:
        with safe_open(path, "pt") as file:
            terms = _read_terms((file.metadata() or {}).get("terms", ""), path)
        # The initial weights are replaced, so drawing them must not change torch's random state.
        with torch.random.fork_rng(devices=[]):
            net = CriticNet([term.weight for term in terms])
        net.load_state_dict(tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise MetricError(
            f"{path}: expected the weights of a critic, found others ({shorten(str(error), 300)}); train "
            "one with python -m opera_agents.critic.train."
        ) from error
    return net.eval().requires_grad_(False), terms
