"""The two brightening tools of the release: without weights, or with a tone curve that can be trained."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from opera_env.tools.nets.tone_curve import ToneCurve


class Brightener(nn.Module, ABC):
    """Base class of the brightening tools: an optional tone curve, then a fixed operation.

    Args:
        tone: Whether a trainable :class:`~opera_env.tools.nets.tone_curve.ToneCurve` comes first.
    """

    halo, statistics_source = 0, "full"

    def __init__(self, tone: bool) -> None:
        super().__init__()
        self.global_context = tone
        self.tone = ToneCurve() if tone else None

    def statistics(self, image: Tensor) -> tuple[Tensor, ...]:
        """Returns the statistics of a whole image that the tone curve uses; empty without a tone curve."""
        return () if self.tone is None else (self.tone.statistics(image),)

    def forward(self, image: Tensor, statistics: tuple[Tensor, ...] | None = None) -> Tensor:
        """Brightens an image, or a tile of an image whose :meth:`statistics` are given."""
        if self.tone is not None:
            image = self.tone(image, statistics[0] if statistics else None)
        return self._brighten(image)

    @abstractmethod
    def _brighten(self, image: Tensor) -> Tensor:
        """Applies the fixed operation, which is the same for every image."""


class GammaCorrection(Brightener):
    """Raises the image to the power of 1 / gamma; (B, 3, H, W) in [0, 1] in and out.

    Args:
        gamma: A positive number; values above 1 brighten the image.
        tone: Whether a trainable tone curve comes first.

    Source: the release's ``gamma_correction`` (1.5). Departures: the image is clamped to [1e-6, 1] first,
        because the power is undefined below 0 and has no finite gradient at 0; the optional tone curve.

    Raises:
        ValueError: If gamma is not positive.
    """

    def __init__(self, gamma: float = 1.5, tone: bool = False) -> None:
        super().__init__(tone)
        if not gamma > 0:
            raise ValueError(f"expected a gamma above 0, found {gamma}")
        self.gamma = gamma

    def _brighten(self, image: Tensor) -> Tensor:
        return image.clamp(1e-6, 1) ** (1 / self.gamma)


class ConstantShift(Brightener):
    """Adds a constant to every pixel; (B, 3, H, W) in [0, 1] in, clamped to [0, 1] out.

    Args:
        levels: The constant, in grey levels from 0 to 255.
        tone: Whether a trainable tone curve comes first.

    Source: the release's ``constant_shift`` (+40). Departure: the optional tone curve.
    """

    def __init__(self, levels: float = 40, tone: bool = False) -> None:
        super().__init__(tone)
        self.levels = levels

    def _brighten(self, image: Tensor) -> Tensor:
        return (image + self.levels / 255).clamp(0, 1)
