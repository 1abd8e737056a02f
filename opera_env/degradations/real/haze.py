"""Haze, fog and smog that lie in the depth of the picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from opera_env.degradations.base import Depth, Stage, Uint8Image, to_uint8
from opera_env.degradations.light import FloatImage, FloatMap, from_linear, smooth_map, to_linear
from opera_env.degradations.real.base import RealDegradation
from opera_env.degradations.real.segments import picture_depth


@dataclass(frozen=True)
class DepthHaze(RealDegradation):
    """Haze in linear light, whose density follows the segments of the picture; sky is at infinity.

    The airlight has a colour, from the yellow of smog to the blue of distance, and is brighter on the side
    of the sun. Even the nearest things are veiled, in which haze differs from fog that is wanted.
    """

    name = "haze"
    stage = Stage.SCENE

    def __call__(self, image: Uint8Image, rng: Generator, depth: Depth | None = None) -> Uint8Image:
        depth = picture_depth(image, rng) if depth is None else depth
        nearest = rng.uniform(0.06, 0.3)
        density = (0.01 + 2.3 * self.strength**2) * rng.uniform(0.85, 1.15)
        transmission = np.exp(-density * (nearest + (1 - nearest) * depth))
        return to_uint8(from_linear(add_airlight(to_linear(image), transmission, rng)))


def add_airlight(light: FloatImage, transmission: FloatMap, rng: Generator) -> FloatImage:
    """Mixes light with the light of the air, I = J t + A (1 - t).

    Args:
        light: J, float32 (H, W, 3) in [0, 1].
        transmission: t, float32 (H, W) in [0, 1].
        rng: The generator of colour, brightness and direction of the airlight A.

    Returns:
        I, float32 (H, W, 3) in [0, 1].
    """
    warmth = rng.normal(0, 0.04)
    colour = np.array([1 + warmth, 1 + 0.25 * warmth, 1 - warmth]) * rng.uniform(0.38, 0.85)
    uneven = 1 + rng.uniform(0, 0.2) * (smooth_map(transmission.shape, 2, rng) - 0.5)
    airlight = np.clip(colour * uneven[..., None], 0, 1)
    veil = (1 - transmission)[..., None]
    return np.asarray(light * (1 - veil) + airlight * veil, np.float32)
