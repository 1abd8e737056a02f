"""A depth map that follows the picture: its edges are the edges of things."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from opera_env.degradations.base import Depth, Uint8Image
from opera_env.degradations.depth import guided_filter
from opera_env.degradations.light import FloatImage, FloatMap, luminance

_SIDE = 64
"""Longest side, in pixels, of the reduced image that is segmented."""


def picture_depth(image: Uint8Image, rng: Generator, slope: float | None = None) -> Depth:
    """Generates a depth map whose edges are those of the segments of the image.

    Each segment lies at a depth of its own, which rises towards the top of the picture, and in itself it
    rises a little as ground does. A bright or blue, smooth segment at the upper border is taken for sky,
    which is at infinity.

    Args:
        image: uint8 RGB (H, W, 3).
        rng: The only source of randomness.
        slope: Fraction of the depth of a segment that comes from its height in the picture, in [0, 1]; the
            remainder is random. None draws it from [0.4, 0.8].

    Returns:
        float32 (H, W) in [0, 1]; 1 is farthest.
    """
    height, width = image.shape[:2]
    factor = max(1.0, max(height, width) / _SIDE)
    size = (max(1, round(width / factor)), max(1, round(height / factor)))
    small = _to_float(cv2.resize(image, size, interpolation=cv2.INTER_AREA))
    segments = segment(small)
    slope = float(rng.uniform(0.4, 0.8)) if slope is None else slope
    depth = _segment_depths(small, segments, slope, rng)
    if factor > 1:
        depth = np.asarray(cv2.resize(depth, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
    guide = luminance(_to_float(image))
    smooth = guided_filter(guide, depth, radius=max(2, round(2 * factor)), epsilon=1e-3)
    return np.clip(smooth, 0, 1)


def _to_float(image: NDArray[np.generic]) -> FloatImage:
    return np.asarray(image, np.float32) / np.float32(255)


def segment(image: FloatImage) -> NDArray[np.intp]:
    """Divides an image, float32 (H, W, 3) in [0, 1], into segments; returns their numbers, (H, W), from 0.

    Source: Felzenszwalb and Huttenlocher, "Efficient Graph-Based Image Segmentation", 2004, in
        scikit-image.
    """
    if min(image.shape[:2]) < 3:
        return np.zeros(image.shape[:2], np.intp)
    fewest_pixels = max(2, image.shape[0] * image.shape[1] // 150)
    from skimage.segmentation import felzenszwalb  # imports scipy, which takes long

    segments = felzenszwalb(image, scale=60, sigma=0.6, min_size=fewest_pixels)
    return np.asarray(segments, np.intp)


def segment_means(values: FloatMap, segments: NDArray[np.intp]) -> NDArray[np.float64]:
    """Returns the mean of a map, float32 (H, W), in each segment."""
    numbers = segments.ravel()
    return np.bincount(numbers, values.ravel()) / np.bincount(numbers)


def _segment_depths(
    small: FloatImage, segments: NDArray[np.intp], slope: float, rng: Generator
) -> FloatMap:
    height, width = segments.shape
    y, x = np.mgrid[1 : 0 : height * 1j, -0.5 : 0.5 : width * 1j].astype(np.float32)
    ramp = np.clip(y + np.float32(rng.uniform(-0.4, 0.4)) * x, 0, 1)
    count = int(segments.max()) + 1
    own = slope * segment_means(ramp, segments) + (1 - slope) * rng.random(count)
    depth = 0.8 * own[segments] + 0.2 * ramp * own[segments]
    depth /= max(float(depth.max()), 1e-6)
    depth[_find_sky(small, segments)[segments]] = 1
    return np.asarray(depth, np.float32)


def _find_sky(small: FloatImage, segments: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Returns which segments look like sky."""
    red, grey, blue = small[..., 0], luminance(small), small[..., 2]
    brightness = segment_means(grey, segments)
    roughness = segment_means(np.abs(grey - cv2.blur(grey, (3, 3))), segments)
    at_top = np.bincount(segments[0], minlength=len(brightness)) > 0.05 * segments.shape[1]
    bluish = segment_means(blue - red, segments)
    return at_top & (roughness < 0.02) & ((brightness > 0.6) | ((bluish > 0.08) & (brightness > 0.3)))
