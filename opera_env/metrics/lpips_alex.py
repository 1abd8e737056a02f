"""LPIPS with AlexNet, version 0.1: the perceptual distance of two images.

The values equal those of ``lpips.LPIPS(net="alex")``, from whose parts the network is built. In addition,
the features of a reference can be computed once and used for many restored images.
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
"""Smallest height and width in pixels; smaller images have no pixels left for AlexNet's second pooling."""

_EPSILON = 1e-10


class LpipsAlex(nn.Module):
    """The LPIPS distance of batches of RGB images; lower is better, and equal images have 0.

    Parameters are frozen; gradients flow to the images. ``train()`` has no effect, because the network has
    no dropout.

    Args:
        backbone: File with the convolutions of AlexNet; by default the file that
            ``opera-env weights fetch lpips`` fetches.

    Shape:
        Two of float32 (B, 3, H, W) in [0, 1], with sides of at least 31 pixels, to float32 (B,).

    Raises:
        MissingWeightsError: If the file is not on this machine; the message names the command that fetches
            it.

    Example:
        ``features = lpips.features(reference)`` once for each reference, then
        ``lpips.distance(restored, features)`` for each batch of restored images.
    """

    def __init__(self, backbone: Path | None = None) -> None:
        super().__init__()
        self.scaling = lpips.ScalingLayer()
        self.backbone = _alexnet(backbone or weights.require("lpips"))
        for index, channel_weights in enumerate(_channel_weights()):
            self.register_buffer(f"channel_weights_{index}", channel_weights)
        self.eval().requires_grad_(False)

    def features(self, reference: Tensor) -> tuple[Tensor, ...]:
        """Returns the unit-length features of the five layers, each (B, C, h, w).

        Raises:
            MetricError: If the shape is not (B, 3, H, W) or a side is shorter than 31 pixels.
        """
        if reference.ndim != 4 or reference.shape[1] != 3 or min(reference.shape[2:]) < MIN_SIDE:
            raise MetricError(
                f"LPIPS expected images of shape (B, 3, H, W) with sides of at least {MIN_SIDE} pixels, "
                f"found {tuple(reference.shape)}. Use a larger canvas or another metric."
            )
        layers = self.backbone(self.scaling(2 * reference - 1))
        # Equal to x / (|x| + eps), as in lpips, whose gradient is NaN where all channels are 0.
        return tuple(functional.normalize(layer, dim=1, eps=_EPSILON) for layer in layers)

    def distance(self, image: Tensor, reference_features: Sequence[Tensor]) -> Tensor:
        """Returns the distance of each image from its reference, (B,).

        Args:
            image: float32 (B, 3, H, W) in [0, 1].
            reference_features: What :meth:`features` returned, for B references or for one reference of all
                images.

        Raises:
            MetricError: If an image is too small, or differs in size from its reference.
        """
        total = image.new_zeros(len(image))
        layers = zip(self.features(image), reference_features, strict=True)
        for index, (layer, reference_layer) in enumerate(layers):
            same_size = layer.shape[2:] == reference_layer.shape[2:]
            if not same_size or len(reference_layer) not in (1, len(layer)):
                raise MetricError(
                    "LPIPS expected images and references of one size and number, or one reference; found "
                    f"features of shape {tuple(layer.shape)} and {tuple(reference_layer.shape)}."
                )
            # lpips weights the channels before it averages over the pixels. Both are linear, and this order
            # needs one map less.
            layer_distances = (layer - reference_layer).square().mean(dim=(2, 3))
            total = total + layer_distances @ self.get_buffer(f"channel_weights_{index}")
        return total

    def forward(self, image: Tensor, reference: Tensor) -> Tensor:
        """Returns the distance of each image from its reference, (B,); both are (B, 3, H, W) in [0, 1]."""
        return self.distance(image, self.features(reference))


def _alexnet(path: Path) -> nn.Module:
    """Builds the slices of AlexNet that lpips uses, with the convolutions of a file."""
    # On the meta device no initial weights are drawn. This saves half a second and leaves torch's random
    # state as it was, so that seeded runs do not depend on which metrics are built.
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore", UserWarning)  # lpips uses a deprecated keyword of torchvision
        network = alexnet(pretrained=False, requires_grad=False)
    convolutions = weights.load_tensors(path)
    # The names are slice2.3.weight in lpips and features.3.weight in torchvision.
    state = {name: convolutions["features." + name.split(".", 1)[1]] for name in network.state_dict()}
    network.load_state_dict(state, assign=True)
    return network.to(memory_format=torch.channels_last)  # saves a quarter of the time on a CPU


def _channel_weights() -> list[Tensor]:
    """Reads the channel weights of each layer, learned from human judgements, from the package lpips."""
    path = Path(lpips.__file__).parent / "weights" / "v0.1" / "alex.pth"
    return [tensor.flatten() for _, tensor in sorted(weights.load_tensors(path).items())]
