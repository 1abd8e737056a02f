"""Two brighteners without weights, as in the release."""

from __future__ import annotations

from torch import Tensor, nn


class GammaCorrection(nn.Module):
    """Raises the image to the power of 1 / gamma; (B, 3, H, W) in [0, 1] in and out.

    Args:
        gamma: Above 1 brightens.

    Source: the release's ``gamma_correction`` (1.5). Departure: the image is clamped to
        [1e-6, 1] first, for a power has no value below 0 and no slope at 0.
    """

    halo = 0

    def __init__(self, gamma: float = 1.5) -> None:
        super().__init__()
        self.gamma = gamma

    def forward(self, image: Tensor) -> Tensor:
        return image.clamp(1e-6, 1) ** (1 / self.gamma)


class ConstantShift(nn.Module):
    """Adds a constant to every pixel; (B, 3, H, W) in [0, 1] in, clamped to [0, 1] out.

    Args:
        levels: How much, in grey levels of 255.

    Source: the release's ``constant_shift`` (+40).
    """

    halo = 0

    def __init__(self, levels: float = 40) -> None:
        super().__init__()
        self.levels = levels

    def forward(self, image: Tensor) -> Tensor:
        return (image + self.levels / 255).clamp(0, 1)
