"""Motion and defocus blur."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from opera_env.degradations.base import Depth, Stage, Uint8Image, to_uint8


@dataclass(frozen=True)
class MotionBlur:
    """The camera moves during the exposure: a line kernel with half-Gaussian weights.

    Attributes:
        radius: The line has ``2 * radius + 1`` taps, one pixel apart.
        sigma: Standard deviation of the weights, in pixels; the first tap is the heaviest.
        angle: Direction of the line in degrees, in (-90, 90).

    Source: the operator of the AgenticIR benchmark, after ImageMagick's motion blur: shifts by whole
        pixels, with the edge replicated.
    """

    name = "motion_blur"
    stage = Stage.LENS
    SEVERITIES: ClassVar[tuple[tuple[int, float], ...]] = ((10, 3), (15, 5), (15, 8))

    radius: int
    sigma: float
    angle: float

    @classmethod
    def draw(cls, rng: Generator) -> MotionBlur:
        radius, sigma = cls.SEVERITIES[rng.integers(len(cls.SEVERITIES))]
        return cls(radius, sigma, float(rng.uniform(-90, 90)))

    def kernel(self) -> NDArray[np.float32]:
        """Returns the square kernel, shape (4 r + 1, 4 r + 1); its centre is the first tap."""
        taps = np.arange(2 * self.radius + 1)
        weights = np.exp(-(taps**2) / (2 * self.sigma**2))
        weights /= weights.sum()
        half_width = 2 * self.radius
        kernel = np.zeros((2 * half_width + 1, 2 * half_width + 1), np.float32)
        sine, cosine = math.sin(math.radians(self.angle)), math.cos(math.radians(self.angle))
        for tap, weight in zip(taps, weights, strict=True):
            # Shifting the image by -ceil(x - 1/2) is the same as reading it at an offset of ceil(x - 1/2).
            row = half_width + math.ceil(tap * sine - 0.5)
            column = half_width + math.ceil(tap * cosine - 0.5)
            kernel[row, column] += weight
        return kernel

    def __call__(self, image: Uint8Image, rng: Generator, depth: Depth | None = None) -> Uint8Image:
        blurred = cv2.filter2D(image.astype(np.float32), -1, self.kernel(), borderType=cv2.BORDER_REPLICATE)
        return to_uint8(blurred)


@dataclass(frozen=True)
class DefocusBlur:
    """The lens is out of focus: an anti-aliased disk.

    Attributes:
        radius: Radius of the disk in pixels.
        alias_sigma: Standard deviation, in pixels, of the Gaussian that softens the rim of the disk.

    Source: the operator of the AgenticIR benchmark, after imagecorruptions.
    """

    name = "defocus_blur"
    stage = Stage.LENS
    SEVERITIES: ClassVar[tuple[tuple[int, float], ...]] = ((3, 0.1), (4, 0.5), (6, 0.5))

    radius: int
    alias_sigma: float

    @classmethod
    def draw(cls, rng: Generator) -> DefocusBlur:
        radius, alias_sigma = cls.SEVERITIES[rng.integers(len(cls.SEVERITIES))]
        return cls(radius, alias_sigma)

    def kernel(self) -> NDArray[np.float32]:
        """Returns the kernel, shape (17, 17), sum 1."""
        offsets = np.arange(-8, 9)
        disk = (offsets[:, None] ** 2 + offsets[None, :] ** 2 <= self.radius**2).astype(np.float32)
        disk /= disk.sum()
        return np.asarray(cv2.GaussianBlur(disk, (3, 3), sigmaX=self.alias_sigma), np.float32)

    def __call__(self, image: Uint8Image, rng: Generator, depth: Depth | None = None) -> Uint8Image:
        return to_uint8(cv2.filter2D(image.astype(np.float32), -1, self.kernel()))
