"""Training data of the pool ``real``: one degradation as cameras, weather and the web make it, or none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from numpy.random import Generator

from opera_env.degradations.base import Degradation
from opera_env.degradations.real import (
    LOOKS,
    DepthHaze,
    HandShake,
    Misfocus,
    Processing,
    Rainfall,
    Resampling,
    SensorNoise,
    Underexposure,
    WebCompression,
    draw_look,
)
from opera_env.degradations.real.base import WEAKEST
from opera_env.degradations.real.rule import NOTHING_TO_DO
from opera_env.tool_training.patches import Image, Pair

Draw: TypeAlias = Callable[[Generator], Degradation]
"""Draws a degradation; the generator is the only source of randomness."""


@dataclass(frozen=True)
class RealDamage:
    """Degrades a photograph, or returns one to which nothing is to be done.

    Of the latter, half are photographs as they are. The others have a look that resembles damage, such as
    night or fog, and their reference is the same picture.

    Attributes:
        draw: Draws the degradation that a tool removes.
        followed_by: Draws a second degradation, which follows with probability ``chance``.
        chance: Probability of the second degradation.
        nothing_to_do: Fraction of photographs without damage.
    """

    draw: Draw
    followed_by: Draw | None = None
    chance: float = 0.0
    nothing_to_do: float = NOTHING_TO_DO

    def __call__(self, image: Image, rng: Generator) -> Pair:
        """Returns the degraded image and its reference, uint8 (H, W, 3), of a clean image."""
        if rng.random() < self.nothing_to_do:
            look = draw_look(rng)
            shown = image if look is None else LOOKS[look](image, rng)
            return shown, shown
        degraded = self.draw(rng)(image, rng)
        if self.followed_by is not None and rng.random() < self.chance:
            degraded = self.followed_by(rng)(degraded, rng)
        return degraded, image


def draw_enlarged(rng: Generator) -> Resampling:
    """Draws a photograph that was made smaller and enlarged again; its size stays the same."""
    return Resampling(float(rng.uniform(WEAKEST, 1)))


def draw_small(rng: Generator) -> Resampling:
    """Draws a photograph of a quarter of the height and the width."""
    return Resampling(1.0, small=True)


NOISE = RealDamage(SensorNoise.draw)
RAIN = RealDamage(Rainfall.draw)
HAZE = RealDamage(DepthHaze.draw)
DEFOCUS = RealDamage(Misfocus.draw)
SHAKE = RealDamage(HandShake.draw)
PROCESSING = RealDamage(Processing.draw)
COMPRESSION = RealDamage(WebCompression.draw)
ENLARGED = RealDamage(draw_enlarged)
SMALL = RealDamage(draw_small, nothing_to_do=0)
"""Photographs of a quarter of the size; each lacks details, so none has nothing to do."""
EXPOSURE = RealDamage(Underexposure.draw, followed_by=SensorNoise.draw, chance=0.5)
"""Too little light, in half of the photographs with the noise of high sensitivity, which stays."""
