"""A small network that has learned to see what R_q would say, without the reference.

``python -m opera_agents.critic.train`` trains it again, for other tools or another reward.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from opera_env.encoder import ImageEncoder
from opera_env.errors import MetricError, MissingWeightsError
from opera_env.files import atomic_write
from opera_env.metrics.base import Features, Metric
from opera_env.metrics.niqe import Niqe32
from opera_env.metrics.piqe import Piqe
from opera_env.weights import load_tensors

SHIPPED_CRITIC = Path(__file__).with_name("critic.safetensors")
"""The critic that comes with the package: R_q of the preset ``lite``, tools of the toolbox ``lite``."""

NO_REFERENCE_METRICS: Mapping[str, Callable[[], Metric]] = {"niqe32": Niqe32, "piqe": Piqe}
"""Metrics that need no reference: a critic need not guess what they say."""


class CriticNet(nn.Module):
    """Judges images of any size by what is seen in them, term by term of the reward.

    Several terms tell more about an image than their sum does: it learns faster so.

    Args:
        highest: What each term contributes at most; those of the preset ``lite`` by default.
        encoder: How it sees; one of its own by default.

    Shape:
        float32 (B, 3, H, W) in [0, 1] to float32 (B, terms), each between 0 and its highest.

    Example:
        >>> CriticNet()(torch.zeros(2, 3, 37, 53)).shape
        torch.Size([2, 5])
    """

    highest: Tensor

    def __init__(
        self,
        highest: Sequence[float] = (3.0, 2.5, 2.5, 1.0, 1.0),
        encoder: ImageEncoder | None = None,
    ) -> None:
        super().__init__()
        self.register_buffer("highest", torch.tensor(highest), persistent=False)
        self.encoder = encoder or ImageEncoder()
        width = self.encoder.features
        self.head = nn.Sequential(
            nn.Linear(width, width // 2), nn.ReLU(), nn.Linear(width // 2, len(highest))
        )

    def forward(self, images: Tensor) -> Tensor:
        """Returns what each term of R_q probably contributes; their sum is R_q."""
        return self.highest * self.head(self.encoder(images)).sigmoid()


@dataclass(frozen=True)
class CriticTerm:
    """One term of the reward that a critic has learned.

    Attributes:
        metric: Name of the term's metric.
        low: Metric value that counts 0.
        high: Metric value that counts 1.
        weight: What a value of ``high`` contributes.
    """

    metric: str
    low: float
    high: float
    weight: float

    def contribution(self, values: Tensor) -> Tensor:
        """Returns what values of the metric contribute, clipped, both (B,)."""
        return self.weight * ((values - self.low) / (self.high - self.low)).clamp(0, 1)


class Critic(Metric):
    """What R_q probably is, 0 to 10, higher is better: it has seen how photographs are damaged and mended.

    Terms that need a reference are guessed by a network. NIQE and PIQE need none: they are computed, where
    the image is large enough for them, and guessed as well where it is not. The network was trained on
    128 x 128 pixels and less; it judges larger images by averages over all of them.

    Args:
        weights: What :func:`save_critic` wrote.

    Raises:
        MissingWeightsError: If there is no such file.
        MetricError: If the file is not a critic's.
    """

    name, higher_is_better, worst, min_side = "critic", True, 0.0, 16
    concurrent = True

    def __init__(self, weights: Path = SHIPPED_CRITIC) -> None:
        self.net, self.terms = load_critic(weights)
        self.no_reference_metrics = {
            column: NO_REFERENCE_METRICS[part.metric]()
            for column, part in enumerate(self.terms)
            if part.metric in NO_REFERENCE_METRICS
        }

    def values(self, images: Tensor, reference: Features) -> Tensor:
        columns = list(self.net(images).unbind(1))
        for column, metric in self.no_reference_metrics.items():
            if min(images.shape[-2:]) >= metric.min_side:
                values = metric.values(images, ())
                values = torch.where(values.isfinite(), values, metric.worst)
                columns[column] = self.terms[column].contribution(values)
        return torch.stack(columns).sum(0)


def save_critic(net: CriticNet, parts: Sequence[CriticTerm], path: Path, about: Mapping[str, Any]) -> None:
    """Writes a critic as fp16 safetensors, whole or not at all.

    Args:
        net: The network.
        parts: The terms of the reward it has learned, in order.
        path: The file.
        about: How it came about, in JSON types; kept in the file.
    """
    weights = {key: value.detach().cpu().half().contiguous() for key, value in net.state_dict().items()}
    terms = json.dumps([asdict(part) for part in parts])
    with atomic_write(path) as file:
        save_file(weights, file, metadata={"terms": terms, "training": json.dumps(about)})


def load_critic(path: Path) -> tuple[CriticNet, tuple[CriticTerm, ...]]:
    """Reads what :func:`save_critic` wrote.

    Raises:
        MissingWeightsError: If there is no such file.
        MetricError: If the file is not a critic's.
    """
    if not path.is_file():
        raise MissingWeightsError("a trained critic", path, "python -m opera_agents.critic.train --help")
    tensors = {name: tensor.float() for name, tensor in load_tensors(path).items()}
    try:
        with safe_open(path, "pt") as file:
            parts = tuple(CriticTerm(**part) for part in json.loads(file.metadata()["terms"]))
        with torch.random.fork_rng(devices=[]):  # its first weights are not kept, so chance is left alone
            net = CriticNet([part.weight for part in parts])
        net.load_state_dict(tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise MetricError(
            f"{path}: expected the weights of a critic, found others ({error}); train one with "
            "python -m opera_agents.critic.train."
        ) from error
    return net.eval().requires_grad_(False), parts
