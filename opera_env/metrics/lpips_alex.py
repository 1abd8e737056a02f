"""LPIPS with AlexNet, version 0.1: perceptual distance of two images, 0 for equal ones.

The same numbers as ``lpips.LPIPS(net="alex")``, built from the parts of that package,
but the reference's features can be kept while many restorations of it are judged.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import lpips
import torch
from lpips.pretrained_networks import alexnet
from torch import Tensor, nn
from torch.nn import functional

from opera_env import weights
from opera_env.errors import MetricError

MIN_SIDE = 31
"""Below this AlexNet's second pooling has nothing left to pool."""

_EPSILON = 1e-10


class LpipsAlex(nn.Module):
    """LPIPS distance on batches of RGB images.

    Inputs are float32 of shape (B, 3, H, W) in [0, 1], at least 31 pixels a side. Lower
    is better. Parameters are frozen; gradients flow to the image. ``train()`` changes
    nothing, there is no dropout in it.

    Args:
        trunk: The file of AlexNet's convolutions; by default the one that
            ``opera-env weights fetch lpips`` brings.

    Raises:
        MissingWeightsError: If the file is not there; names the command that gets it.

    Example:
        ``kept = metric.features(reference)`` once an image, then
        ``metric.distance(restored, kept)`` once a batch of plans.
    """

    def __init__(self, trunk: Path | None = None) -> None:
        super().__init__()
        self.scaling = lpips.ScalingLayer()
        self.trunk = _alexnet(trunk or weights.require("lpips"))
        for position, importance in enumerate(_channel_weights()):
            self.register_buffer(f"importance_{position}", importance)
        self.eval().requires_grad_(False)

    def features(self, reference: Tensor) -> tuple[Tensor, ...]:
        """Returns the unit-length features of the five layers, each (B, C, h, w).

        Raises:
            MetricError: If the shape is not (B, 3, H, W) or a side is under 31 pixels.
        """
        if reference.ndim != 4 or reference.shape[1] != 3 or min(reference.shape[2:]) < MIN_SIDE:
            raise MetricError(
                f"LPIPS needs images of shape (B, 3, H, W), {MIN_SIDE} pixels a side or more; "
                f"got {tuple(reference.shape)}. Use a larger canvas or another metric."
            )
        layers = self.trunk(self.scaling(2 * reference - 1))
        # Not lpips' own x / (|x| + eps): equal in value, but that one's gradient is NaN
        # where all channels are 0.
        return tuple(functional.normalize(layer, dim=1, eps=_EPSILON) for layer in layers)

    def distance(self, image: Tensor, reference_features: Sequence[Tensor]) -> Tensor:
        """Returns the distances (B,) to a reference whose features are at hand.

        Args:
            image: The images to judge.
            reference_features: From :meth:`features`, of as many references as there
                are images, or of one that all are compared with.

        Raises:
            MetricError: If an image is too small or not of its reference's size.
        """
        total = image.new_zeros(len(image))
        layers = zip(self.features(image), reference_features, strict=True)
        for position, (ours, theirs) in enumerate(layers):
            if ours.shape[2:] != theirs.shape[2:] or len(theirs) not in (1, len(ours)):
                raise MetricError(
                    f"LPIPS compares images of one size and number; got features of shape "
                    f"{tuple(ours.shape)} and {tuple(theirs.shape)}."
                )
            # lpips weighs the channels first and averages over the pixels then; both are
            # linear, and in this order no map is written twice.
            gaps = (ours - theirs).square().mean(dim=(2, 3))
            total = total + gaps @ self.get_buffer(f"importance_{position}")
        return total

    def forward(self, image: Tensor, reference: Tensor) -> Tensor:
        """Returns the distances (B,) of image and reference."""
        return self.distance(image, self.features(reference))


def _alexnet(path: Path) -> nn.Module:
    """Builds lpips' slices of AlexNet with the convolutions of ``path``."""
    # On the meta device nothing is drawn: half a second less, and a seeded run does not
    # depend on whether a metric was built in it.
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore", UserWarning)  # lpips uses an old keyword of torchvision
        network = alexnet(pretrained=False, requires_grad=False)
    convolutions = weights.load_tensors(path)
    # lpips says slice2.3.weight where torchvision says features.3.weight.
    state = {name: convolutions["features." + name.split(".", 1)[1]] for name in network.state_dict()}
    network.load_state_dict(state, assign=True)
    return network.to(memory_format=torch.channels_last)  # a quarter off the time on a CPU


def _channel_weights() -> list[Tensor]:
    """Returns what people's judgements taught LPIPS of each channel, from lpips' wheel."""
    path = Path(lpips.__file__).parent / "weights" / "v0.1" / "alex.pth"
    return [tensor.flatten() for _, tensor in sorted(weights.load_tensors(path).items())]
