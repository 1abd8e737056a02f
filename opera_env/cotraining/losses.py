"""The loss of tools under plans: distance from the reference, and no-reference quality.

Source: appendix D of the paper, equations 3 to 11.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields

import torch
from torch import Tensor, nn

from opera_env import weights
from opera_env.cotraining.vgg import VggDistance
from opera_env.errors import MissingWeightsError, UnknownPresetError
from opera_env.metrics.critic import SHIPPED_CRITIC, load_critic
from opera_env.metrics.lpips_alex import LpipsAlex
from opera_env.metrics.pretrained import PyiqaMetric
from opera_env.settings import NonNegativeFloat, check_settings


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms of the loss; a term of weight 0 is not computed, but for L1, which begins.

    Attributes:
        l1: Mean absolute difference from the reference.
        vgg: Mean absolute difference of the VGG features relu2_2, relu3_4 and relu4_4.
        lpips: LPIPS with AlexNet.
        musiq: 1 - MUSIQ / 100.
        clipiqa: 1 - CLIP-IQA.
        critic: 1 - critic / 10, where all terms of the reward are predicted by the critic's network.
    """

    l1: NonNegativeFloat = 0.4
    vgg: NonNegativeFloat = 0.0
    lpips: NonNegativeFloat = 0.0
    musiq: NonNegativeFloat = 0.0
    clipiqa: NonNegativeFloat = 0.0
    critic: NonNegativeFloat = 0.0

    def __post_init__(self) -> None:
        check_settings(self)

    def at_epoch(self, epoch: int, epochs: int) -> LossWeights:
        """Returns the weights of an epoch.

        Training starts with L1 alone. Over the first 30 % of the epochs, the weight of L1 falls and the
        other weights rise to the values of this object, by a cosine.

        Args:
            epoch: The epoch, counted from 1.
            epochs: Number of epochs.

        Example:
            >>> half_way = LossWeights(l1=0.4, lpips=0.15).at_epoch(3, 20)
            >>> round(half_way.l1, 3), round(half_way.lpips, 3)
            (0.7, 0.075)

        Source: equations 3 to 5. Departures: the final weights are those of any preset, not only the
            paper's; with fewer than four epochs there is no transition.
        """
        transition = math.floor(0.3 * epochs)
        gamma = 1.0 if epoch >= transition else 0.5 * (1 - math.cos(math.pi * epoch / transition))
        others = {name: gamma * value for name, value in asdict(self).items() if name != "l1"}
        return LossWeights(l1=1 - (1 - self.l1) * gamma, **others)


LOSS_PRESETS: Mapping[str, LossWeights] = {
    "lite": LossWeights(l1=0.8, lpips=0.06, critic=0.02),
    "paper": LossWeights(l1=0.4, vgg=0.1, lpips=0.15, musiq=0.1, clipiqa=0.1),
    "pixel": LossWeights(l1=1.0),
}
"""Loss presets: ``"lite"`` needs the LPIPS weights only, ``"paper"`` is the paper's, ``"pixel"`` is L1."""


def get_loss_weights(loss: str | LossWeights) -> LossWeights:
    """Returns the weights of a preset, or the given weights themselves.

    Raises:
        UnknownPresetError: If there is no preset of that name.
    """
    if isinstance(loss, LossWeights):
        return loss
    if loss not in LOSS_PRESETS:
        raise UnknownPresetError("loss", loss, tuple(LOSS_PRESETS))
    return LOSS_PRESETS[loss]


class RestorationLoss(nn.Module):
    """Computes the terms of the loss; gradients flow to the results, and the parameters are frozen.

    Perceptual terms are computed from results clamped to [0, 1], as they would be saved. L1 is computed
    from the results themselves, so that its gradient moves values outside the range back into it.

    Args:
        loss_weights: Of the terms with networks, only those with a weight above 0 are built, and need their
            weight files. L1 is always computed, since training starts with it.

    Attributes:
        names: Names of the terms.

    Raises:
        MissingWeightsError: If the weight file of a term is not on this machine; the message names the
            command that fetches it.
    """

    def __init__(self, loss_weights: LossWeights) -> None:
        super().__init__()
        names = [field.name for field in fields(loss_weights)]
        self.names = tuple(name for name in names if name == "l1" or getattr(loss_weights, name) > 0)
        self.nets = nn.ModuleDict({name: _TERM_NETS[name]() for name in self.names if name in _TERM_NETS})
        self.requires_grad_(False)
        super().train(False)

    def train(self, mode: bool = True) -> RestorationLoss:
        """Changes nothing: networks stay in evaluation mode, because some are random in training mode."""
        return self

    def forward(self, results: Tensor, references: Tensor) -> dict[str, Tensor]:
        """Computes the terms of a batch.

        Args:
            results: float32 (B, 3, H, W), nominally in [0, 1].
            references: float32 (B, 3, H, W) in [0, 1].

        Returns:
            The unweighted value of each term, float32 (B,), by name.
        """
        clamped = results.clamp(0, 1)
        term_values = {"l1": (results - references).abs().mean((1, 2, 3))}
        return term_values | {name: net(clamped, references) for name, net in self.nets.items()}


class _ScoreLoss(nn.Module):
    """Turns a no-reference score between 0 and ``max_score`` into a loss between 1 and 0."""

    def __init__(self, net: nn.Module, max_score: float) -> None:
        super().__init__()
        self.net, self.max_score = net, max_score

    def forward(self, results: Tensor, references: Tensor) -> Tensor:
        scores = self.net(results)
        return 1 - scores.view(len(results), -1).sum(1) / self.max_score


def _pyiqa(name: str, max_score: float) -> nn.Module:
    metric = PyiqaMetric(name, 0.0, True, name, as_loss=True, loss_reduction="none")
    return _ScoreLoss(metric.net, max_score)


def _vgg() -> nn.Module:
    """Builds the VGG term with VGG19, which the paper uses, or with VGG16 where only that is present."""
    for name in ("vgg19", "vgg16"):
        if weights.status(name) == "present":
            return VggDistance(name)
    raise MissingWeightsError(
        "VGG19, or VGG16 in its place",
        weights.get_weight_file("vgg19").path,
        "opera-env weights fetch vgg19 (the paper's), or opera-env weights fetch vgg16",
    )


_TERM_NETS: Mapping[str, Callable[[], nn.Module]] = {
    "vgg": _vgg,
    "lpips": LpipsAlex,
    "musiq": lambda: _pyiqa("musiq", 100.0),
    "clipiqa": lambda: _pyiqa("clipiqa", 1.0),
    "critic": lambda: _ScoreLoss(load_critic(SHIPPED_CRITIC)[0], 10.0),
}
"""Builders of the terms that need a network."""


def weighted_loss(terms: Mapping[str, Tensor], loss_weights: LossWeights) -> Tensor:
    """Returns the weighted sum of the terms for each result, (B,).

    Args:
        terms: Values of the terms by name, (B,) each, as :class:`RestorationLoss` returns them.
        loss_weights: The weight of each term.
    """
    return torch.stack([getattr(loss_weights, name) * value for name, value in terms.items()]).sum(0)
