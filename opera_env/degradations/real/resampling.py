"""Photographs that were made small and large again, by programs that nobody knows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np
from numpy.random import Generator

from opera_env.degradations.base import Depth, Stage, Uint8Image, to_uint8
from opera_env.degradations.kernels import gaussian_kernel
from opera_env.degradations.light import filter_image
from opera_env.degradations.real.base import RealDegradation

_REDUCTIONS = (cv2.INTER_AREA, cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)
_ENLARGEMENTS = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)
"""Methods of interpolation, with equal probability for each entry."""


@dataclass(frozen=True)
class Resampling(RealDegradation):
    """Anisotropic blur, reduction by a factor of up to 4, and enlargement to the size before.

    Attributes:
        strength: From 0, a factor of 1.05, to 1, a factor of 4.
        small: Whether the image is reduced by 4 and stays so, as in the built-in degradation.
    """

    name = "low_resolution"
    stage = Stage.SENSOR
    small: bool = False

    @classmethod
    def draw(cls, rng: Generator) -> Self:
        """Draws the strength; two of five images stay small."""
        enlarged = super().draw(rng)
        return cls(1.0, small=True) if rng.random() < 0.4 else enlarged

    def __call__(self, image: Uint8Image, rng: Generator, depth: Depth | None = None) -> Uint8Image:
        height, width = image.shape[:2]
        factor = 4.0 if self.small else self.between(1.05, 4)
        first, second = factor * rng.uniform(0.1, 0.5, 2)
        kernel = gaussian_kernel(max(first, 0.2), max(second, 0.2), rng.uniform(0, math.pi), radius=6)
        blurred = filter_image(image.astype(np.float32), kernel)
        size = (max(1, round(width / factor)), max(1, round(height / factor)))
        reduced = cv2.resize(blurred, size, interpolation=_REDUCTIONS[int(rng.integers(len(_REDUCTIONS)))])
        if self.small:
            return to_uint8(reduced)
        method = _ENLARGEMENTS[int(rng.integers(len(_ENLARGEMENTS)))]
        return to_uint8(cv2.resize(to_uint8(reduced), (width, height), interpolation=method))
