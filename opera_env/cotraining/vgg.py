"""How far apart two images are in the features of VGG."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torchvision
from torch import Tensor, nn

from opera_env import weights

_LAYERS: Mapping[str, tuple[int, ...]] = {"vgg16": (8, 15, 22), "vgg19": (8, 17, 26)}
"""Where relu2_2, relu3_4 and relu4_4 stand in torchvision's ``features``; VGG16, whose stages have three
convolutions, has relu3_3 and relu4_3 in their places."""


class VggDistance(nn.Module):
    """Mean absolute differences of three layers, added up.

    Args:
        name: "vgg19", the paper's, or "vgg16".

    Shape:
        Two of float32 (B, 3, H, W) in [0, 1], 8 pixels a side at least, to (B,).

    Raises:
        MissingWeightsError: If its weights are not there; names the command that gets them.

    Source: equation 8 of the paper.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name, self.layers = name, _LAYERS[name]
        with torch.device("meta"):  # its first weights are not kept, so chance is left alone
            self.features: nn.Sequential = getattr(torchvision.models, name)(weights=None).features[
                : self.layers[-1] + 1
            ]
        tensors = weights.load_tensors(weights.require(name))
        kept = {key: tensors[f"features.{key}"] for key in self.features.state_dict()}
        self.features.load_state_dict(kept, assign=True)
        mean, deviation = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 3, 1, 1)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("deviation", deviation, persistent=False)
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor, references: Tensor) -> Tensor:
        """Returns the distances of a batch."""
        with torch.no_grad():
            wanted = self._look(references)
        found = self._look(images)
        gaps = [(ours - theirs).abs().mean((1, 2, 3)) for ours, theirs in zip(found, wanted, strict=True)]
        return torch.stack(gaps).sum(0)

    def _look(self, images: Tensor) -> list[Tensor]:
        x, seen = (images - self.mean) / self.deviation, list[Tensor]()
        for position, layer in enumerate(self.features):
            x = torch.relu(x) if isinstance(layer, nn.ReLU) else layer(x)  # not in place: gradients flow
            if position in self.layers:
                seen.append(x)
        return seen
