"""Two brighteners, as in the release: without weights, or with a curve that can be trained."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from opera_env.tools.nets.tone_curve import ToneCurve


class Brightener(nn.Module, ABC):
    """Lays a curve over the image first, if it has one.

    Args:
        tone: Whether it has.
    """

    halo, statistics_source = 0, "full"

    def __init__(self, tone: bool) -> None:
        super().__init__()
        self.global_context = tone
        self.tone = ToneCurve() if tone else None

    def statistics(self, image: Tensor) -> tuple[Tensor, ...]:
        """What the curve knows of an image; nothing without one."""
        return () if self.tone is None else (self.tone.statistics(image),)

    def forward(self, image: Tensor, statistics: tuple[Tensor, ...] | None = None) -> Tensor:
        """Brightens an image, or a part of one whose :meth:`statistics` are given."""
        if self.tone is not None:
            image = self.tone(image, statistics[0] if statistics else None)
        return self._brighten(image)

    @abstractmethod
    def _brighten(self, image: Tensor) -> Tensor:
        """What follows the curve, the same for every image."""


class GammaCorrection(Brightener):
    """Raises the image to the power of 1 / gamma; (B, 3, H, W) in [0, 1] in and out.

    Args:
        gamma: Above 1 brightens.
        tone: Lay a curve over the image first, found from statistics of the whole of it.

    Source: the release's ``gamma_correction`` (1.5). Departures: the image is clamped to
        [1e-6, 1] first, for a power has no value below 0 and no slope at 0; the curve.
    """

    def __init__(self, gamma: float = 1.5, tone: bool = False) -> None:
        super().__init__(tone)
        self.gamma = gamma

    def _brighten(self, image: Tensor) -> Tensor:
        return image.clamp(1e-6, 1) ** (1 / self.gamma)


class ConstantShift(Brightener):
    """Adds a constant to every pixel; (B, 3, H, W) in [0, 1] in, clamped to [0, 1] out.

    Args:
        levels: How much, in grey levels of 255.
        tone: Lay a curve over the image first, found from statistics of the whole of it.

    Source: the release's ``constant_shift`` (+40). Departure: the curve.
    """

    def __init__(self, levels: float = 40, tone: bool = False) -> None:
        super().__init__(tone)
        self.levels = levels

    def _brighten(self, image: Tensor) -> Tensor:
        return (image + self.levels / 255).clamp(0, 1)
