"""Noise of a sensor, as the camera's processing leaves it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from opera_env.degradations.base import Depth, Stage, Uint8Image, to_uint8
from opera_env.degradations.light import FloatImage, blur, filter_image, from_linear, to_linear
from opera_env.degradations.real.base import RealDegradation

_GREEN = np.array([[0, 0.25, 0], [0.25, 1, 0.25], [0, 0.25, 0]], np.float32)
_RED_BLUE = np.array([[0.25, 0.5, 0.25], [0.5, 1, 0.5], [0.25, 0.5, 0.25]], np.float32)
"""Kernels of bilinear demosaicking for the samples of one colour, with zeros between them."""

_COLOUR_MATRIX = np.array([[1.35, -0.25, -0.1], [-0.15, 1.3, -0.15], [-0.05, -0.3, 1.35]], np.float32)
"""From the colours of a sensor to those of a photograph, as in usual cameras; each row sums to 1."""


def sensor_noise(light: FloatImage, shot: float, read: float, rng: Generator) -> FloatImage:
    """Returns the noise of a sensor with a Bayer pattern, correlated by demosaicking.

    Each pixel of the sensor counts photons, with a variance in proportion to the light, and adds noise of
    its electronics. White balance amplifies red and blue, demosaicking interpolates, and the colour matrix
    mixes the colours, by which noise gets grains and colours.

    Args:
        light: Linear light, float32 (H, W, 3) in [0, 1].
        shot: Variance for light of 1.
        read: Standard deviation without light.
        rng: The only source of randomness.

    Returns:
        Noise in linear light, float32 (H, W, 3).

    Source: the noise model of Foi et al., "Practical Poissonian-Gaussian Noise Modeling", 2008, and the
        order of steps of Brooks et al., "Unprocessing Images for Learned Raw Denoising", 2019.
    """
    height, width = light.shape[:2]
    balance = np.array([rng.uniform(1.3, 2.1), 1, rng.uniform(1.3, 2.1)], np.float32)
    # Before white balance a pixel has less light, by this factor, for the same colour of the photograph.
    deviation = np.sqrt(np.float32(shot) * light * balance + np.float32(read**2) * balance**2)
    mosaic = rng.standard_normal((height, width), np.float32)
    noise = np.zeros_like(light)
    row, column = np.mgrid[:height, :width] % 2
    for channel, sites in enumerate(((row + column == 0), (row != column), (row + column == 2))):
        kernel = _GREEN if channel == 1 else _RED_BLUE
        noise[..., channel] = (
            filter_image(np.where(sites, mosaic, np.float32(0)), kernel) * deviation[..., channel]
        )
    return np.asarray(noise @ _COLOUR_MATRIX.T, np.float32)


@dataclass(frozen=True)
class SensorNoise(RealDegradation):
    """Noise of high sensitivity; the camera smooths every second image, which leaves blotches of colour."""

    name = "noise"
    stage = Stage.SENSOR

    def __call__(self, image: Uint8Image, rng: Generator, depth: Depth | None = None) -> Uint8Image:
        light = to_linear(image)
        shot, read = self.between(1e-4, 1.2e-2) * rng.uniform(0.8, 1.25), self.between(5e-4, 1.2e-2)
        noisy = from_linear(light + sensor_noise(light, shot, read * rng.uniform(0.6, 1.4), rng))
        if rng.random() < 0.5:
            noisy = self._smooth(image.astype(np.float32), noisy, rng)
        return to_uint8(noisy)

    def _smooth(
        self, clean: NDArray[np.float32], noisy: NDArray[np.float32], rng: Generator
    ) -> NDArray[np.float32]:
        """Smooths the noise as cameras do: brightness a little, colour much.

        Colour noise is smoothed over several pixels, but on coarse scales, on which cameras do not look for
        it, it is stronger than that of brightness.
        """
        noise = np.asarray(cv2.cvtColor((noisy - clean) / 255, cv2.COLOR_RGB2YCrCb), np.float32)
        noise[..., 1:] -= 0.5
        grain = blur(noise[..., 0], rng.uniform(0.4, 0.9)) * rng.uniform(0.9, 1.3)
        size = rng.uniform(1.2, 4)
        blotches = blur(np.ascontiguousarray(noise[..., 1:]), size) * (size * rng.uniform(0.5, 1.1))
        smoothed = np.concatenate([grain[..., None], blotches + 0.5], axis=2).astype(np.float32)
        return clean + 255 * np.asarray(cv2.cvtColor(smoothed, cv2.COLOR_YCrCb2RGB), np.float32)
