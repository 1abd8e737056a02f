"""A camera that moves during the exposure."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from opera_env.degradations.base import Depth, Stage, Uint8Image, to_uint8
from opera_env.degradations.kernels import draw_path, path_kernel
from opera_env.degradations.light import (
    blend_layers,
    extend_highlights,
    filter_image,
    from_linear,
    to_linear,
)
from opera_env.degradations.real.base import RealDegradation


@dataclass(frozen=True)
class HandShake(RealDegradation):
    """Blur along a curved path of up to 28 pixels, whose direction changes across the picture.

    The camera also turns around its axis, so that the path on the right is that on the left, rotated.
    """

    name = "motion_blur"
    stage = Stage.LENS

    def __call__(self, image: Uint8Image, rng: Generator, depth: Depth | None = None) -> Uint8Image:
        count = int(rng.integers(12, 40))
        length = self.between(0.7, 28) * rng.uniform(0.85, 1.15)
        path, roll = draw_path(count, length / count, rng), rng.normal(0, 0.12)
        light = extend_highlights(to_linear(image), rng.uniform(1, 3))
        layers = [filter_image(light, path_kernel(_rotate(path, angle))) for angle in (-roll, roll)]
        across = np.linspace(0, 1, image.shape[1], dtype=np.float32)
        return to_uint8(from_linear(blend_layers(layers, np.broadcast_to(across, image.shape[:2]))))


def _rotate(path: NDArray[np.float64], angle: float) -> NDArray[np.float64]:
    cosine, sine = math.cos(angle), math.sin(angle)
    return np.array([[cosine, -sine], [sine, cosine]]) @ path
