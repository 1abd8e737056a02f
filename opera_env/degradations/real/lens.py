"""A missed focus: blur by an aperture, different for near and far things."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from opera_env.degradations.base import Depth, Stage, Uint8Image, to_uint8
from opera_env.degradations.kernels import aperture_kernel
from opera_env.degradations.light import (
    FloatImage,
    FloatMap,
    blend_layers,
    extend_highlights,
    filter_image,
    from_linear,
    smooth_map,
    to_linear,
)
from opera_env.degradations.real.base import RealDegradation
from opera_env.degradations.real.segments import picture_depth

_LAYERS = 4
"""Number of images of different blur between which pixels are interpolated."""


@dataclass(frozen=True)
class Misfocus(RealDegradation):
    """Blur by a radius of up to 7 pixels, by the depth of the picture, by a smooth map or constant.

    Nothing is in focus, in which it differs from shallow focus: the smallest radius is at least 0.3 of the
    largest.
    """

    name = "defocus_blur"
    stage = Stage.LENS

    def __call__(self, image: Uint8Image, rng: Generator, depth: Depth | None = None) -> Uint8Image:
        largest = self.between(0.35, 7) * rng.uniform(0.85, 1.15)
        smallest = largest * rng.uniform(0.3, 1)
        shape, kind = (image.shape[0], image.shape[1]), rng.random()
        if kind < 0.5:
            where = picture_depth(image, rng) if depth is None else depth
            where = 1 - where if rng.random() < 0.5 else where
        elif kind < 0.75:
            where = smooth_map(shape, int(rng.integers(2, 6)), rng)
        else:
            where = np.ones(shape, np.float32)
        light = blur_by_map(to_linear(image), smallest, largest, where, rng)
        return to_uint8(from_linear(light))


def blur_by_map(
    light: FloatImage, smallest: float, largest: float, where: FloatMap, rng: Generator
) -> FloatImage:
    """Blurs light by apertures of different radii.

    Args:
        light: float32 (H, W, 3) in [0, 1].
        smallest: Radius in pixels where the map is 0.
        largest: Radius in pixels where the map is 1.
        where: float32 (H, W) in [0, 1].
        rng: The generator of the shape of the aperture.

    Returns:
        float32 (H, W, 3); highlights may exceed 1.
    """
    blades, turn = int(rng.integers(5, 12)), rng.uniform(0, 2 * math.pi)
    softness = rng.uniform(0.3, 0.8)
    bright = extend_highlights(light, rng.uniform(1, 3))
    radii = np.linspace(smallest, largest, _LAYERS)
    layers = [
        filter_image(bright, aperture_kernel(radius, blades, turn, min(softness, 0.15 + 0.5 * radius)))
        for radius in radii.tolist()
    ]
    return blend_layers(layers, where * np.float32(_LAYERS - 1))
