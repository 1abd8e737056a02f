"""JPEG and WebP files, twice: the file of the camera and that of the web."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator

from opera_env.degradations.base import Depth, Stage, Uint8Image
from opera_env.degradations.camera import compress
from opera_env.degradations.real.base import RealDegradation

_BLOCK = 16
"""Side of the largest blocks of JPEG and WebP, in pixels."""

_CHROMA = (
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
)
"""Resolutions of colour, with equal probability for each entry."""


@dataclass(frozen=True)
class WebCompression(RealDegradation):
    """Two lossy files, one after the other, of which the second has a quality from 95 down to 20.

    The blocks of the first file do not lie on those of the second, because the photograph was cropped. One
    file of four is WebP, the others are JPEG.
    """

    name = "jpeg"
    stage = Stage.SENSOR

    def __call__(self, image: Uint8Image, rng: Generator, depth: Depth | None = None) -> Uint8Image:
        quality = round(95 - 75 * self.strength)
        before = int(rng.integers(max(60, quality), 97))
        top, left = (int(offset) for offset in rng.integers(0, _BLOCK, 2))
        framed = np.pad(image, ((top, 0), (left, 0), (0, 0)), mode="symmetric")
        first = _write(framed, before, rng)[top:, left:]
        return _write(np.ascontiguousarray(first), quality, rng)


def _write(image: Uint8Image, quality: int, rng: Generator) -> Uint8Image:
    if rng.random() < 0.25:
        return compress(image, ".webp", [cv2.IMWRITE_WEBP_QUALITY, quality])
    chroma = _CHROMA[int(rng.integers(len(_CHROMA)))]
    parameters = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, chroma]
    return compress(image, ".jpg", parameters)
