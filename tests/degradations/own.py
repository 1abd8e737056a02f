"""Custom degradations, as a user would write them: one as an instance, two as classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from opera_env.degradations import Stage, to_uint8
from opera_env.degradations.base import Depth, Uint8Image


class SaltAndPepper:
    """Some pixels become black or white; the parameters are drawn around those of the instance."""

    name, stage = "salt_and_pepper", Stage.SENSOR

    def __init__(self, fraction: float = 0.05) -> None:
        self.fraction = fraction

    def draw(self, rng: Generator) -> SaltAndPepper:
        return SaltAndPepper(self.fraction * rng.uniform(0.5, 1.5))

    def __call__(self, image: Uint8Image, rng: Generator, depth: Depth | None = None) -> Uint8Image:
        hit = rng.random(image.shape[:2]) < self.fraction
        value = rng.choice(np.array([0, 255], np.uint8), image.shape[:2])
        return np.where(hit[..., None], value[..., None], image)


@dataclass(frozen=True)
class Vignette:
    """The corners are darker than the centre; written like the built-in degradations."""

    name = "vignette"
    stage = Stage.LENS

    strength: float

    @classmethod
    def draw(cls, rng: Generator) -> Vignette:
        return cls(float(rng.uniform(0.5, 0.9)))

    def __call__(self, image: Uint8Image, rng: Generator, depth: Depth | None = None) -> Uint8Image:
        y, x = (np.linspace(-1, 1, side, dtype=np.float32) for side in image.shape[:2])
        return to_uint8(image * (1 - self.strength * (y[:, None] ** 2 + x**2) / 2)[..., None])


@dataclass(frozen=True)
class DepthFade:
    """Far places fade to black; black without a depth map. A degradation that uses depth."""

    name = "depth_fade"
    stage = Stage.SCENE

    @classmethod
    def draw(cls, rng: Generator) -> DepthFade:
        return cls()

    def __call__(self, image: Uint8Image, rng: Generator, depth: Depth | None = None) -> Uint8Image:
        return np.zeros_like(image) if depth is None else to_uint8(image * (1 - depth[..., None]))


OWN_DEGRADATIONS = [SaltAndPepper(), Vignette]
"""As a setting of a trainer names them: ``tests.degradations.own:OWN_DEGRADATIONS``."""
