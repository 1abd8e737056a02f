"""Linear light and smooth random maps: what models of cameras and weather share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from opera_env.degradations.base import Uint8Image

FloatImage: TypeAlias = NDArray[np.float32]
"""RGB, float32 (H, W, 3)."""

FloatMap: TypeAlias = NDArray[np.float32]
"""One value for each pixel, float32 (H, W)."""

GAMMA = 2.2
"""Exponent between the values of a photograph and the light that made them."""


def to_linear(image: Uint8Image) -> FloatImage:
    """Returns the light, float32 (H, W, 3) in [0, 1], of an image, uint8 (H, W, 3)."""
    return np.asarray((image.astype(np.float32) / 255) ** GAMMA, np.float32)


def from_linear(light: FloatImage) -> FloatImage:
    """Returns grey levels, float32 (H, W, 3) in [0, 255], of light, which is clipped to [0, 1]."""
    return np.asarray(255 * np.clip(light, 0, 1) ** (1 / GAMMA), np.float32)


def luminance(image: FloatImage) -> FloatMap:
    """Returns the luminance of an image, float32 (H, W, 3), by the weights of ITU-R BT.601."""
    return np.asarray(image @ np.array([0.299, 0.587, 0.114], np.float32), np.float32)


def filter_image(image: NDArray[np.float32], kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """Filters an image, float32 (H, W) or (H, W, 3), by a kernel; the border is mirrored."""
    return np.asarray(cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT_101), np.float32)


def blur(image: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Blurs an image, float32 (H, W) or (H, W, 3), by a Gaussian with ``sigma`` in pixels."""
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101), np.float32)


def smooth_map(shape: tuple[int, int], cells: int, rng: Generator) -> FloatMap:
    """Returns low-frequency noise of a shape (H, W), stretched to [0, 1].

    Args:
        shape: Height and width in pixels.
        cells: Number of random values along each side, which are interpolated.
        rng: The only source of randomness.
    """
    coarse = rng.random((cells, cells), np.float32)
    smooth = cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
    low, high = float(smooth.min()), float(smooth.max())
    return np.asarray((smooth - low) / max(high - low, 1e-6), np.float32)


def extend_highlights(light: FloatImage, factor: float) -> FloatImage:
    """Gives clipped highlights the light that the clipping took.

    Blur then makes bright disks and trails of lamps and reflections, as in a lens, instead of grey ones.

    Args:
        light: float32 (H, W, 3) in [0, 1].
        factor: Brightness of white areas, at least 1; light below 0.9 stays as it is.

    Returns:
        float32 (H, W, 3) in [0, factor].
    """
    near_white = np.clip((luminance(light) - 0.9) / 0.1, 0, 1)[..., None]
    return np.asarray(light * (1 + (factor - 1) * near_white**2), np.float32)


def blend_layers(layers: Sequence[FloatImage], position: FloatMap) -> FloatImage:
    """Returns an image that changes from pixel to pixel between several, as it is blurred differently.

    Args:
        layers: The images, float32 (H, W, 3) each.
        position: The layer of each pixel, float32 (H, W) in [0, N - 1]; fractions interpolate linearly.
    """
    result = np.zeros_like(layers[0])
    for index, layer in enumerate(layers):
        result += layer * np.maximum(1 - np.abs(position - index), 0)[..., None]
    return result
