"""Too little light: under-exposure, backlight and uneven light, with its colours and its noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from opera_env.degradations.base import Depth, Stage, Uint8Image, to_uint8
from opera_env.degradations.depth import guided_filter
from opera_env.degradations.light import FloatImage, FloatMap, from_linear, luminance, smooth_map, to_linear
from opera_env.degradations.real.base import RealDegradation
from opera_env.degradations.real.noise import sensor_noise

_DARKENINGS = ("whole", "whole", "backlight", "uneven", "vignette")
"""Where the light is missing, with equal probability for each entry."""


@dataclass(frozen=True)
class Underexposure(RealDegradation):
    """Less light, by a factor of up to 20, in the whole picture or in a part of it.

    In backlight the bright parts keep their light or are over-exposed. Shadows are crushed by the tone
    curve of the camera, white balance is wrong as it often is in little light, and the sensor adds the
    noise that it has at its lowest sensitivity.
    """

    name = "low_light"
    stage = Stage.SENSOR

    def __call__(self, image: Uint8Image, rng: Generator, depth: Depth | None = None) -> Uint8Image:
        light = to_linear(image)
        gain = self.between(0.95, 0.05) ** rng.uniform(0.85, 1.15)
        kind = _DARKENINGS[int(rng.integers(len(_DARKENINGS)))]
        exposure = np.float32(gain) ** _darkness(kind, image, rng)
        if kind == "backlight":
            exposure = exposure * np.float32(1 + self.strength * rng.uniform(0, 0.4))
        warmth = self.strength * rng.normal(0, 0.12)
        colour = np.exp(np.array([warmth, 0, -warmth]))
        light = np.asarray(light * exposure[..., None] * colour, np.float32)
        light = np.asarray(light + sensor_noise(light, 2e-4, 1e-3, rng), np.float32)
        crushed = np.clip(light, 0, 1) ** np.float32(1 + self.strength * rng.uniform(0, 0.25))
        return to_uint8(from_linear(crushed))


def _darkness(kind: str, image: Uint8Image, rng: Generator) -> FloatMap:
    """Returns where the light is missing, float32 (H, W): 1 where all of it is, 0 where none is."""
    height, width = image.shape[:2]
    if kind == "backlight":
        return _backlight(np.asarray(image / 255, np.float32), rng)
    if kind == "uneven":
        return np.float32(0.35) + np.float32(0.65) * smooth_map(
            (height, width), int(rng.integers(2, 5)), rng
        )
    if kind == "vignette":
        y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
        row, column = rng.uniform(-0.35, 0.35, 2)
        distance = np.clip(np.hypot(y - row, x - column) / rng.uniform(1.0, 1.4), 0, 1)
        return np.asarray(rng.uniform(0.2, 0.5) + 0.5 * distance**2, np.float32)
    return np.ones((height, width), np.float32)


def _backlight(image: FloatImage, rng: Generator) -> FloatMap:
    """Returns the darkness of a scene whose bright parts, sky or windows, get the right exposure."""
    grey = luminance(image)
    threshold = np.clip(np.quantile(grey, rng.uniform(0.6, 0.85)), 0.3, 0.85)
    dark = 1 / (1 + np.exp((grey - np.float32(threshold)) / np.float32(0.05)))
    radius = max(2, min(grey.shape) // 16)
    return np.clip(guided_filter(grey, np.asarray(dark, np.float32), radius, epsilon=1e-2), 0, 1)
