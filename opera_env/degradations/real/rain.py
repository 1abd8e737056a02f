"""Rain as translucent streaks of several layers and directions, with the mist of the drops far away."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from opera_env.degradations.base import Depth, Stage, Uint8Image, to_uint8
from opera_env.degradations.kernels import line_kernel
from opera_env.degradations.light import (
    FloatMap,
    blur,
    filter_image,
    from_linear,
    luminance,
    smooth_map,
    to_linear,
)
from opera_env.degradations.real.base import RealDegradation
from opera_env.degradations.real.haze import add_airlight


@dataclass(frozen=True)
class Rainfall(RealDegradation):
    """Two to four layers of streaks: far ones short, thin and dense; near ones long, wide, out of focus.

    A drop refracts its surroundings, so that a streak has the mean colour of the region behind it, made
    brighter by the sky, and hides little of what it crosses. Layers fall in slightly different directions.
    """

    name = "rain"
    stage = Stage.SCENE

    def __call__(self, image: Uint8Image, rng: Generator, depth: Depth | None = None) -> Uint8Image:
        shape = (image.shape[0], image.shape[1])
        opacity = self._streaks(shape, rng)[..., None]
        light = to_linear(image)
        mist = self.strength**1.5 * rng.uniform(0.03, 0.3) * (0.6 + 0.4 * smooth_map(shape, 3, rng))
        light = add_airlight(light, np.asarray(1 - mist, np.float32), rng)
        sky = rng.uniform(0.5, 0.9)
        behind = blur(light, max(2.0, min(shape) / 24))
        drops = 0.45 * behind + 0.55 * np.maximum(luminance(behind), sky * rng.uniform(0.6, 1.0))[..., None]
        return to_uint8(from_linear(np.asarray(light * (1 - opacity) + drops * opacity, np.float32)))

    def _streaks(self, shape: tuple[int, int], rng: Generator) -> FloatMap:
        """Returns the opacity of all streaks, float32 (H, W) in [0, 0.85]."""
        wind = rng.normal(0, 14)
        layers = int(rng.integers(2, 5))
        clear = np.ones(shape, np.float32)
        for nearness in np.sort(rng.random(layers)):
            length = max(3, round((5 + 26 * nearness) * rng.uniform(0.8, 1.3)))
            width = 0.45 + 1.1 * nearness**2 * rng.uniform(0.6, 1.3)
            rate = self.between(1e-3, 9e-3) * (1 - 0.8 * nearness) / layers * rng.uniform(0.7, 1.3)
            drops = (rng.random(shape, np.float32) < rate).astype(np.float32)
            drops *= rng.uniform(0.25, 1, shape).astype(np.float32)
            kernel = line_kernel(length, wind + rng.normal(0, 5), width)
            peak = self.between(0.08, 0.85) * rng.uniform(0.7, 1.3) * (1 - 0.35 * nearness)
            gusts = 0.4 + 0.6 * smooth_map(shape, 4, rng)
            layer = filter_image(drops, kernel / kernel.max()) * np.float32(peak) * gusts
            clear *= 1 - np.minimum(layer, 0.85)
        return np.minimum(1 - clear, np.float32(0.85))
