"""Degradations by the camera and the file format: low light, noise, low resolution and JPEG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from opera_env.degradations.base import Depth, Stage, Uint8Image, to_uint8


@dataclass(frozen=True)
class Noise:
    """Gaussian or Poisson noise, independent in each channel.

    Attributes:
        kind: "gaussian" or "poisson", with equal probability.
        level: Standard deviation in grey levels of 255, in [20, 50], for Gaussian noise; factor on the
            deviation, in [1, 3], for Poisson noise.

    Source: the operator of the AgenticIR benchmark, after BasicSR: photons are counted on a scale of the
        next power of two of the number of grey levels in the image.
    """

    name = "noise"
    stage = Stage.SENSOR

    kind: str
    level: float

    @classmethod
    def draw(cls, rng: Generator) -> Noise:
        if rng.random() < 0.5:
            return cls("gaussian", float(rng.uniform(20, 50)))
        return cls("poisson", float(rng.uniform(1, 3)))

    def __call__(self, image: Uint8Image, rng: Generator, depth: Depth | None = None) -> Uint8Image:
        if self.kind == "gaussian":
            return to_uint8(image + rng.standard_normal(image.shape, np.float32) * self.level)
        levels = np.count_nonzero(np.bincount(image.ravel(), minlength=256))
        photons = 2.0 ** np.ceil(np.log2(levels))
        clean = image / 255.0
        error = rng.poisson(clean * photons) / photons - clean
        return to_uint8((clean + error * self.level) * 255)


@dataclass(frozen=True)
class Jpeg:
    """JPEG compression with 4:2:0 chroma.

    Attributes:
        quality: Integer in [10, 30).
    """

    name = "jpeg"
    stage = Stage.SENSOR

    quality: int

    @classmethod
    def draw(cls, rng: Generator) -> Jpeg:
        return cls(int(rng.integers(10, 30)))

    def __call__(self, image: Uint8Image, rng: Generator, depth: Depth | None = None) -> Uint8Image:
        return compress(image, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, self.quality])


def compress(image: Uint8Image, suffix: str, parameters: Sequence[int]) -> Uint8Image:
    """Returns an image as it is after a file has been written and read.

    Args:
        image: uint8 RGB (H, W, 3).
        suffix: Suffix of the file format, such as ``".jpg"``.
        parameters: Settings of ``cv2.imencode``: keys and values in turn.
    """
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(suffix, bgr, parameters)
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)


def bicubic_matrix(size: int, factor: int) -> NDArray[np.float64]:
    """Returns the weights of MATLAB's antialiased bicubic reduction along one axis.

    Args:
        size: Number of pixels; the result has ``ceil(size / factor)``.
        factor: Factor by which the axis is reduced.

    Returns:
        Matrix of shape (ceil(size / factor), size); its rows sum to 1, the border is mirrored.
    """
    result_size = -(-size // factor)
    centre = (np.arange(result_size) + 0.5) * factor - 0.5
    taps = np.floor(centre - 2 * factor).astype(int)[:, None] + np.arange(4 * factor + 2)
    distance = np.abs(centre[:, None] - taps) / factor
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    weights = np.where(distance <= 1, near, np.where(distance < 2, far, 0))
    weights /= weights.sum(axis=1, keepdims=True)
    mirrored = taps % (2 * size)
    mirrored = np.where(mirrored < size, mirrored, 2 * size - 1 - mirrored)
    matrix = np.zeros((result_size, size))
    np.add.at(matrix, (np.arange(result_size)[:, None], mirrored), weights)
    return matrix


@dataclass(frozen=True)
class LowResolution:
    """The image shrinks to a quarter of its width and height.

    Source: the operator of the AgenticIR benchmark: MATLAB's ``imresize(image, 1/4)``, bicubic and
        antialiased.
    """

    name = "low_resolution"
    stage = Stage.SENSOR
    FACTOR: ClassVar[int] = 4

    @classmethod
    def draw(cls, rng: Generator) -> LowResolution:
        return cls()

    def __call__(self, image: Uint8Image, rng: Generator, depth: Depth | None = None) -> Uint8Image:
        rows = bicubic_matrix(image.shape[0], self.FACTOR)
        columns = bicubic_matrix(image.shape[1], self.FACTOR)
        return to_uint8(np.einsum("ih,hwc,jw->ijc", rows, image, columns, optimize=True))


@dataclass(frozen=True)
class LowLight:
    """Under-exposure: the value channel of HSV is lowered, hue and saturation are kept.

    Attributes:
        kind: "shift" (V less 30 to 49), "gamma" (V to the power of 1 / g, g in [0.5, 0.7]) or "linear"
            (V mapped to the range from 0 to a maximum of 100 to 149), with equal probability.
        amount: The shift in grey levels, g, or the new maximum.

    Source: the operator of the AgenticIR benchmark. Departure: hue and saturation are kept exactly,
        while the original rounds them to 8 bits.
    """

    name = "low_light"
    stage = Stage.SCENE

    kind: str
    amount: float

    @classmethod
    def draw(cls, rng: Generator) -> LowLight:
        kind = ("shift", "gamma", "linear")[rng.integers(3)]
        if kind == "shift":
            return cls(kind, float(rng.integers(30, 50)))
        if kind == "gamma":
            return cls(kind, float(rng.uniform(0.5, 0.7)))
        return cls(kind, float(rng.integers(100, 150)))

    def darken(self, value: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns the new V channel, (H, W), of the old one, both in [0, 255]."""
        if self.kind == "shift":
            return np.clip(value - self.amount, 0, 255)
        if self.kind == "gamma":
            return 255 * (value / 255) ** (1 / self.amount)
        low, high = value.min(), value.max()
        return (value - low) / max(high - low, 1) * self.amount

    def __call__(self, image: Uint8Image, rng: Generator, depth: Depth | None = None) -> Uint8Image:
        value = image.max(axis=2).astype(np.float64)
        darker = np.rint(self.darken(value))
        return to_uint8(image * (darker / np.maximum(value, 1))[..., None])
