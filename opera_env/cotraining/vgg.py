"""The VGG term of the paper's loss: the distance of two images in the features of VGG."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from opera_env import weights

_LAYERS: Mapping[str, tuple[int, ...]] = {"vgg16": (8, 15, 22), "vgg19": (8, 17, 26)}
"""Indices of relu2_2, relu3_4 and relu4_4 in torchvision's ``features``.

The last two stages of VGG16 have three convolutions instead of four: relu3_3 and relu4_3 take the places of
relu3_4 and relu4_4.
"""


class VggDistance(nn.Module):
    """The sum over three layers of the mean absolute difference of VGG features.

    Parameters are frozen; gradients flow to the images.

    Args:
        name: ``"vgg19"``, which the paper uses, or ``"vgg16"``.

    Shape:
        Two of float32 (B, 3, H, W) in [0, 1], with sides of at least 8 pixels, to float32 (B,).

    Raises:
        MissingWeightsError: If the weights are not on this machine; the message names the command that
            fetches them.

    Source: equation 8 of the paper.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str) -> None:
        import torchvision  # takes as long as torch, and only this loss needs it

        super().__init__()
        self.name, self.layers = name, _LAYERS[name]
        with torch.device("meta"):  # draws no initial weights, and so leaves torch's random state alone
            self.features: nn.Sequential = getattr(torchvision.models, name)(weights=None).features[
                : self.layers[-1] + 1
            ]
        tensors = weights.load_tensors(weights.require(name))
        state = {key: tensors[f"features.{key}"] for key in self.features.state_dict()}
        self.features.load_state_dict(state, assign=True)
        mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 3, 1, 1)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor, references: Tensor) -> Tensor:
        """Returns the distance of each image from its reference, (B,); both are (B, 3, H, W) in [0, 1]."""
        with torch.no_grad():
            reference_features = self._extract_features(references)
        image_features = self._extract_features(images)
        layer_distances = [
            (image_layer - reference_layer).abs().mean((1, 2, 3))
            for image_layer, reference_layer in zip(image_features, reference_features, strict=True)
        ]
        return torch.stack(layer_distances).sum(0)

    def _extract_features(self, images: Tensor) -> list[Tensor]:
        x, features = (images - self.mean) / self.std, list[Tensor]()
        for index, layer in enumerate(self.features):
            # torchvision's own ReLU works in place, which would overwrite values that gradients need.
            x = torch.relu(x) if isinstance(layer, nn.ReLU) else layer(x)
            if index in self.layers:
                features.append(x)
        return features
