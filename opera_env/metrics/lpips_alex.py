"""LPIPS with AlexNet, version 0.1: the perceptual distance of two images.

The values equal those of ``lpips.LPIPS(net="alex")``, whose channel weights are used. In addition, the
features of a reference can be computed once and used for many restored images. The package ``lpips`` is not
imported, because it imports torchvision, which takes as long as torch.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
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

    mean: Tensor
    scale: Tensor

    def __init__(self, backbone: Path | None = None) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor((-0.030, -0.088, -0.188))[:, None, None])
        self.register_buffer("scale", torch.tensor((0.458, 0.448, 0.450))[:, None, None])
        self.backbone = _load_alexnet(backbone or weights.require("lpips"))
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
        layers = self.backbone((2 * reference - 1 - self.mean) / self.scale)
        # x / max(|x|, eps). lpips has x / (|x| + eps), whose gradient is NaN where all channels are 0.
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


class _AlexNet(nn.Module):
    """The results of the five convolutions of AlexNet, with the names that the package lpips gives them."""

    def __init__(self) -> None:
        super().__init__()
        layers = [
            *(nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(inplace=True)),
            *(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(inplace=True)),
            *(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(inplace=True)),
        ]
        ends = [index + 1 for index, layer in enumerate(layers) if isinstance(layer, nn.ReLU)]
        for number, (start, end) in enumerate(zip([0, *ends], ends, strict=False), 1):
            named = OrderedDict((str(index), layers[index]) for index in range(start, end))
            self.add_module(f"slice{number}", nn.Sequential(named))

    def forward(self, image: Tensor) -> list[Tensor]:
        results = [image]
        for part in self.children():
            results.append(part(results[-1]))
        return results[1:]


def _load_alexnet(path: Path) -> _AlexNet:
    """Builds AlexNet with the convolutions of a file."""
    # On the meta device no initial weights are drawn. This leaves torch's random state as it was, so that
    # seeded runs do not depend on which metrics are built.
    with torch.device("meta"):
        network = _AlexNet()
    convolutions = weights.load_tensors(path)
    # The names are slice2.3.weight in lpips and features.3.weight in torchvision.
    state = {name: convolutions["features." + name.split(".", 1)[1]] for name in network.state_dict()}
    network.load_state_dict(state, assign=True)
    return network.to(memory_format=torch.channels_last)  # saves a quarter of the time on a CPU


def _channel_weights() -> list[Tensor]:
    """Reads the channel weights of each layer, learned from human judgements, from the package lpips."""
    spec = find_spec("lpips")
    assert spec is not None and spec.origin is not None
    path = Path(spec.origin).parent / "weights" / "v0.1" / "alex.pth"
    return [tensor.flatten() for _, tensor in sorted(weights.load_tensors(path).items())]
