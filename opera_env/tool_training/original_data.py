"""Training data like those of published restoration networks, and unlike the benchmark's degradations.

A network that is taken off the shelf never saw the images of the benchmark: its rain fell otherwise, its
blur came from cameras, its JPEG files had one quality. The tools of an off-the-shelf toolbox are trained on
the degradations here. Each is a callable that degrades an image; the generator is the only source of
randomness.

Source: the data sets are named with each class; what is imitated is their recipe, not their photographs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from opera_env.degradations.base import Uint8Image, to_uint8
from opera_env.degradations.camera import Jpeg
from opera_env.degradations.kernels import (
    aperture_kernel,
    draw_path,
    gaussian_kernel,
    line_kernel,
    path_kernel,
)
from opera_env.degradations.light import blend_layers, filter_image, from_linear, smooth_map, to_linear


@dataclass(frozen=True)
class GaussianNoise:
    """Additive white Gaussian noise, as denoisers of colour images are trained on (SwinIR, Restormer).

    Attributes:
        low: Smallest standard deviation in grey levels of 255.
        high: Largest standard deviation; equal to ``low`` for noise of one strength.
    """

    low: float
    high: float

    def __call__(self, image: Uint8Image, rng: Generator) -> Uint8Image:
        sigma = self.low if self.low == self.high else rng.uniform(self.low, self.high)
        return to_uint8(image + rng.standard_normal(image.shape, np.float32) * np.float32(sigma))


@dataclass(frozen=True)
class LayeredRain:
    """One to three layers of added white streaks of different sizes, like Rain100H and Rain13K (Restormer).

    Each layer has a direction near that of the others. The layers are added to the image, so that heavy
    rain saturates.
    """

    def __call__(self, image: Uint8Image, rng: Generator) -> Uint8Image:
        size, angle = (image.shape[0], image.shape[1]), rng.uniform(-45, 45)
        rain = np.zeros(size, np.float32)
        for _ in range(int(rng.integers(1, 4))):
            drops = (rng.random(size, np.float32) < rng.uniform(0.0005, 0.006)).astype(np.float32)
            drops *= 0.5 + 0.5 * rng.random(size, np.float32)
            width = float(rng.uniform(0.5, 1.1))
            kernel = line_kernel(int(rng.integers(7, 26)), angle + rng.uniform(-8, 8), width)
            rain += filter_image(drops, kernel / kernel.max()) * np.float32(rng.uniform(50, 180))
        return to_uint8(image + np.minimum(rain, 255)[..., None])


@dataclass(frozen=True)
class VeiledRain:
    """Translucent streaks in many directions over a thin veil, like Outdoor-Rain and SPA-Data.

    The streaks are blended with the image instead of being added, and each has its own opacity.
    """

    def __call__(self, image: Uint8Image, rng: Generator) -> Uint8Image:
        height, width = image.shape[:2]
        opacity = np.zeros((height, width), np.float32)
        for _ in range(int(rng.integers(2, 5))):
            drops = (rng.random((height, width), np.float32) < rng.uniform(2e-4, 1.5e-3)).astype(np.float32)
            drops *= 0.35 + 0.45 * rng.random((height, width), np.float32)
            kernel = line_kernel(int(rng.integers(9, 27)), rng.uniform(-45, 45), rng.uniform(0.6, 1.4))
            opacity += filter_image(drops, kernel / kernel.max())
        opacity = np.minimum(opacity, 0.9)[..., None]
        veil = np.float32(rng.uniform(0, 0.15)) * smooth_map((height, width), 3, rng)[..., None]
        misty = image * (1 - veil) + np.float32(rng.uniform(170, 230)) * veil
        return to_uint8(misty * (1 - opacity) + np.float32(rng.uniform(200, 255)) * opacity)


@dataclass(frozen=True)
class IndependentHaze:
    """Haze with smooth random depth that does not follow the picture, like RESIDE's ITS and OTS.

    Attributes:
        airlight: Range of the airlight A, of 1.
        density: Range of the density beta, for a depth from 0 to 1.
    """

    airlight: tuple[float, float] = (0.7, 1.0)
    density: tuple[float, float] = (0.4, 1.8)

    def __call__(self, image: Uint8Image, rng: Generator) -> Uint8Image:
        height, width = image.shape[:2]
        y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
        angle = rng.uniform(0, 2 * math.pi)
        ramp = (x * math.cos(angle) + y * math.sin(angle)) / (2 * math.sqrt(2)) + 0.5
        weight = rng.uniform(0, 1)
        depth = weight * ramp + (1 - weight) * smooth_map((height, width), int(rng.integers(2, 7)), rng)
        nearest = rng.uniform(0, 0.4)  # rooms and streets seldom begin at the lens
        depth = nearest + (1 - nearest) * depth
        transmission = np.exp(-rng.uniform(*self.density) * depth)[..., None]
        return to_uint8(image * transmission + 255 * rng.uniform(*self.airlight) * (1 - transmission))


@dataclass(frozen=True)
class LensBlur:
    """Blur that varies over the image, by apertures of several shapes, with a little noise, like DPDD.

    The radius follows a smooth map: some regions are in focus. Light is blurred, not grey levels.

    Attributes:
        max_radius: Largest radius in pixels.
    """

    max_radius: float = 6.0
    LEVELS: ClassVar[int] = 3

    def __call__(self, image: Uint8Image, rng: Generator) -> Uint8Image:
        light, shape = to_linear(image), (image.shape[0], image.shape[1])
        blades, turn = int(rng.integers(5, 12)), rng.uniform(0, 2 * math.pi)
        softness = rng.uniform(0.3, 0.9)
        near, far = sorted(rng.uniform(0, self.max_radius, 2))
        levels = np.linspace(near, far, self.LEVELS)
        # Each pixel is interpolated between the images that are blurred at the two radii next to its own.
        blurred = [filter_image(light, aperture_kernel(float(r), blades, turn, softness)) for r in levels]
        position = smooth_map(shape, int(rng.integers(2, 6)), rng) * (self.LEVELS - 1)
        result = blend_layers(blurred, position)
        noise = rng.standard_normal(image.shape, np.float32) * np.float32(rng.uniform(0, 2))
        return to_uint8(from_linear(result) + noise)


@dataclass(frozen=True)
class CameraShake:
    """Blur along a curved path of varying length, with a little noise, like GoPro's averaged frames.

    Attributes:
        points: Range of the number of points of the path, from the first to below the second.
        step: Range of the distance of two points in pixels.
    """

    points: tuple[int, int] = (8, 41)
    step: tuple[float, float] = (0.2, 0.6)

    def kernel(self, rng: Generator) -> NDArray[np.float32]:
        """Draws the path of a point of light, float32 (K, K), which sums to 1 and is centred."""
        count, step = int(rng.integers(*self.points)), rng.uniform(*self.step)
        return path_kernel(draw_path(count, step, rng))

    def __call__(self, image: Uint8Image, rng: Generator) -> Uint8Image:
        blurred = from_linear(filter_image(to_linear(image), self.kernel(rng)))
        noise = rng.standard_normal(image.shape, np.float32) * np.float32(rng.uniform(0, 2))
        return to_uint8(blurred + noise)


@dataclass(frozen=True)
class RandomCascade:
    """Blur, resampling, noise and JPEG in random order, at a quarter of the size, like BSRGAN (real-SR)."""

    FACTOR: ClassVar[int] = 4
    METHODS: ClassVar[tuple[int, ...]] = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_AREA)
    # Blur, resampling, noise and JPEG each occur with this probability.
    STEP_PROBABILITY: ClassVar[float] = 0.75

    def __call__(self, image: Uint8Image, rng: Generator) -> Uint8Image:
        size = (image.shape[1] // self.FACTOR, image.shape[0] // self.FACTOR)
        steps: list[Callable[[Uint8Image], Uint8Image]] = [
            lambda image: _random_blur(image, rng),
            lambda image: self._resample(image, rng),
            lambda image: GaussianNoise(1, 15)(image, rng),
            lambda image: Jpeg(int(rng.integers(40, 96)))(image, rng),
        ]
        for index in rng.permutation(len(steps)):
            if rng.random() < self.STEP_PROBABILITY:
                image = steps[index](image)
        method = self.METHODS[int(rng.integers(len(self.METHODS)))]
        reduced = to_uint8(cv2.resize(image, size, interpolation=method))
        reduced = GaussianNoise(0, 6)(reduced, rng)
        return Jpeg(int(rng.integers(50, 96)))(reduced, rng)

    def _resample(self, image: Uint8Image, rng: Generator) -> Uint8Image:
        """Changes the size by a factor of up to 2, down or up."""
        factor = 2 ** rng.uniform(-1, 0.5)
        method = self.METHODS[int(rng.integers(len(self.METHODS)))]
        return to_uint8(cv2.resize(image, None, fx=factor, fy=factor, interpolation=method))


def _random_blur(image: Uint8Image, rng: Generator) -> Uint8Image:
    """Blurs by a Gaussian of random widths along two random axes."""
    narrow, wide = rng.uniform(0.3, 2.4, 2)
    kernel = gaussian_kernel(narrow, wide, rng.uniform(0, math.pi), radius=7)
    return to_uint8(filter_image(image.astype(np.float32), kernel))
