"""Photographs that look damaged and are not: night, fog, shallow focus, film, snow.

They are the references of samples: whoever "restores" them lowers the score.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
from numpy.random import Generator

from opera_env.degradations.base import Uint8Image, to_uint8
from opera_env.degradations.kernels import aperture_kernel
from opera_env.degradations.light import (
    FloatMap,
    blur,
    filter_image,
    from_linear,
    luminance,
    to_linear,
)
from opera_env.degradations.real.haze import add_airlight
from opera_env.degradations.real.lens import blur_by_map
from opera_env.degradations.real.segments import picture_depth

Look: TypeAlias = Callable[[Uint8Image, Generator], Uint8Image]
"""Gives a photograph, uint8 (H, W, 3), a look; the generator is the only source of randomness."""


def night(image: Uint8Image, rng: Generator) -> Uint8Image:
    """Night: a dark, bluish scene of full contrast, in which the brightest things are lamps with a glow."""
    light = to_linear(image)
    grey = luminance(light)
    level = max(float(np.quantile(grey, rng.uniform(0.95, 0.99))), 0.55)
    wide = blur(grey, max(1.0, min(grey.shape) / 100))  # small reflections are no lamps
    lamps = np.clip((np.minimum(grey, wide) - level) / (0.3 * level), 0, 1)[..., None]
    blue = np.array([0.7, 0.9, 1.2], np.float32) * rng.uniform(0.03, 0.12)
    warm = np.array([1.15, 0.95, 0.7], np.float32) * rng.uniform(0.7, 1.1)
    dark = np.maximum(light * blue - 0.004, 0)
    lit = np.asarray(np.minimum(light / level, 1.2) * warm * lamps, np.float32)
    glow = 0.25 * blur(lit, max(2.0, min(grey.shape) / 40))
    return to_uint8(from_linear(np.asarray(dark * (1 - lamps) + lit + glow, np.float32)))


def low_key(image: Uint8Image, rng: Generator) -> Uint8Image:
    """Low key: one lit subject with soft edges before a background that sinks into black."""
    light = to_linear(image)
    subject = _subject(image, rng)[..., None]
    background = rng.uniform(0.005, 0.05)
    lit = light * (background + (1 - background) * subject) - 0.003 * (1 - subject)
    return to_uint8(from_linear(np.asarray(np.maximum(lit, 0), np.float32)))


def fog(image: Uint8Image, rng: Generator) -> Uint8Image:
    """Fog: far things fade into white, and the foreground keeps its blacks, as nearness is to be felt."""
    depth = picture_depth(image, rng, slope=0.9)
    start = rng.uniform(0.25, 0.5)
    beyond = np.clip((depth - start) / (1 - start), 0, 1)
    transmission = np.exp(-np.float32(rng.uniform(1.5, 4)) * beyond)
    return to_uint8(from_linear(add_airlight(to_linear(image), transmission, rng)))


def shallow_focus(image: Uint8Image, rng: Generator) -> Uint8Image:
    """Shallow focus: one sharp subject before a background out of focus."""
    away = 1 - _subject(image, rng)
    radius = rng.uniform(3, 9)
    return to_uint8(from_linear(blur_by_map(to_linear(image), 0, radius, away, rng)))


def film_grain(image: Uint8Image, rng: Generator) -> Uint8Image:
    """Film grain: without colour, of even size, strongest in the mid-tones."""
    grey = luminance(np.asarray(image / 255, np.float32))
    grain = blur(rng.standard_normal(grey.shape, np.float32), rng.uniform(0.5, 0.9))
    grain /= max(float(grain.std()), 1e-6)
    amount = rng.uniform(5, 14) * (0.35 + 2.6 * grey * (1 - grey))
    return to_uint8(image + (amount * grain)[..., None])


def snow(image: Uint8Image, rng: Generator) -> Uint8Image:
    """Snowfall: soft white flakes, small ones far away and a few large ones out of focus near the lens."""
    height, width = image.shape[:2]
    light = to_linear(image)
    for nearness in (0.0, 0.35, 1.0):
        radius = rng.uniform(0.5, 0.8) + rng.uniform(0.8, 2.5) * nearness
        rate = rng.uniform(2e-3, 6e-3) / (1 + 14 * nearness)
        flakes = (rng.random((height, width), np.float32) < rate) * rng.random((height, width), np.float32)
        kernel = aperture_kernel(radius, 12, 0, 0.8 + nearness)
        cover = filter_image(np.asarray(flakes, np.float32), kernel / kernel.max())
        cover = np.minimum(cover * np.float32(1 - 0.45 * nearness), 0.95)[..., None]
        light = np.asarray(light * (1 - cover) + 0.9 * cover, np.float32)
    return to_uint8(from_linear(light))


def monochrome(image: Uint8Image, rng: Generator) -> Uint8Image:
    """Black and white, at times toned like an old print."""
    grey = luminance(image.astype(np.float32))[..., None]
    tone = rng.uniform(0, 0.12) if rng.random() < 0.4 else 0.0
    return to_uint8(grey * np.array([1 + tone / 2, 1, 1 - tone]))


def _subject(image: Uint8Image, rng: Generator) -> FloatMap:
    """Returns where the subject is, float32 (H, W) in [0, 1]: a place near the middle, with its edges.

    The place is an ellipse, which things of the depth that the subject has extend and others cut off.
    """
    height, width = image.shape[:2]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    row, column = rng.uniform(-0.35, 0.35, 2)
    size = rng.uniform(0.35, 0.65)
    distance = np.hypot((y - row) / rng.uniform(0.8, 1.4), x - column)
    ellipse = 1 / (1 + np.exp(np.clip((distance - size) / 0.06, -30, 30)))
    depth = picture_depth(image, rng)
    own_depth = float((depth * ellipse).sum() / max(float(ellipse.sum()), 1e-6))
    same_depth = np.exp(-(((depth - own_depth) / 0.2) ** 2))
    near = np.clip(1.4 - distance / (1.6 * size), 0, 1)
    return np.asarray(np.clip(2 * near * (0.4 * ellipse + 0.7 * same_depth) - 0.1, 0, 1), np.float32)


LOOKS: Mapping[str, Look] = MappingProxyType(
    {look.__name__: look for look in (night, low_key, fog, shallow_focus, film_grain, snow, monochrome)}
)
"""The looks by name."""

PLAIN = 0.5
"""Probability that a photograph to which nothing is to be done has no special look."""


def draw_look(rng: Generator) -> str | None:
    """Draws the name of a look, or None for a photograph as it is; all looks are equally likely."""
    if rng.random() < PLAIN:
        return None
    return list(LOOKS)[int(rng.integers(len(LOOKS)))]
