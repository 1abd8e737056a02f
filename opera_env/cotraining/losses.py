"""What tools are trained on: how far a plan's result is from the original, and how it looks by itself.

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


@dataclass(frozen=True)
class LossWeights:
    """How much each term counts.

    Attributes:
        l1: Mean absolute difference.
        vgg: Mean absolute differences of VGG's features at relu2_2, relu3_4 and relu4_4.
        lpips: LPIPS with AlexNet.
        musiq: 1 - MUSIQ / 100.
        clipiqa: 1 - CLIP-IQA.
        critic: 1 - critic / 10, as its network guesses it.
    """

    l1: float = 0.4
    vgg: float = 0.0
    lpips: float = 0.0
    musiq: float = 0.0
    clipiqa: float = 0.0
    critic: float = 0.0

    def at_epoch(self, epoch: int, epochs: int) -> LossWeights:
        """Returns the weights of an epoch: pixels first, the rest comes in over the first 30 %.

        Args:
            epoch: Counted from 1.
            epochs: How many there will be.

        Example:
            >>> half_way = LossWeights(l1=0.4, lpips=0.15).at_epoch(3, 20)
            >>> round(half_way.l1, 3), round(half_way.lpips, 3)
            (0.7, 0.075)

        Source: equations 3 to 5. Departure: the weight that pixels give up is that of a preset; with
            fewer than four epochs there is no transition.
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
"""The presets: the paper's; one that needs no download but that of the reward; and L1 alone."""


def get_loss_weights(loss: str | LossWeights) -> LossWeights:
    """Returns a preset by name, or the weights themselves.

    Raises:
        UnknownPresetError: If there is no preset of that name.
    """
    if isinstance(loss, LossWeights):
        return loss
    if loss not in LOSS_PRESETS:
        raise UnknownPresetError("loss", loss, tuple(LOSS_PRESETS))
    return LOSS_PRESETS[loss]


class RestorationLoss(nn.Module):
    """Judges results beside originals; gradients flow to the results.

    Perceptual terms see the image as it would be saved, clamped to [0, 1]; L1 sees beyond, so that what
    has left the range comes back.

    Args:
        target: Terms of weight 0 are not built, so their weights need not be there.

    Attributes:
        names: The terms there are.

    Raises:
        MissingWeightsError: If weights of a term are not on this machine; names the command to get them.
    """

    def __init__(self, target: LossWeights) -> None:
        super().__init__()
        self.names = tuple(field.name for field in fields(target) if getattr(target, field.name) > 0)
        self.nets = nn.ModuleDict({name: _TERM_NETS[name]() for name in self.names if name in _TERM_NETS})
        self.requires_grad_(False)
        super().train(False)

    def train(self, mode: bool = True) -> RestorationLoss:
        """Changes nothing: judges do not learn, and some turn random when told to."""
        return self

    def forward(self, results: Tensor, originals: Tensor) -> dict[str, Tensor]:
        """Returns each term, unweighted.

        Args:
            results: float32 (B, 3, H, W), nominally in [0, 1].
            originals: float32 (B, 3, H, W) in [0, 1].

        Returns:
            (B,) by name.
        """
        seen = results.clamp(0, 1)
        found = {"l1": (results - originals).abs().mean((1, 2, 3))} if "l1" in self.names else {}
        return found | {name: net(seen, originals) for name, net in self.nets.items()}


class _ScoreLoss(nn.Module):
    """A no-reference score between 0 and its highest, turned into a loss."""

    def __init__(self, net: nn.Module, highest: float) -> None:
        super().__init__()
        self.net, self.highest = net, highest

    def forward(self, results: Tensor, originals: Tensor) -> Tensor:
        scores = self.net(results)
        return 1 - scores.view(len(results), -1).sum(1) / self.highest


def _pyiqa(name: str, highest: float) -> nn.Module:
    metric = PyiqaMetric(name, 0.0, True, name, as_loss=True, loss_reduction="none")
    return _ScoreLoss(metric.net, highest)


def _vgg() -> nn.Module:
    """VGG19 as in the paper, or VGG16 where that is what there is."""
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


def weighted_loss(terms: Mapping[str, Tensor], by: LossWeights) -> Tensor:
    """Returns the loss of each result, (B,)."""
    return torch.stack([getattr(by, name) * value for name, value in terms.items()]).sum(0)
