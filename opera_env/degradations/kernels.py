"""Kernels of blur: lines, apertures, paths of a moving camera and Gaussians."""

from __future__ import annotations

import math

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray


def line_kernel(length: int, angle: float, width: float) -> NDArray[np.float32]:
    """Returns the kernel of a streak or of a straight movement, float32 (K, K), which sums to 1.

    Args:
        length: Length of the line in pixels.
        angle: Direction in degrees from the vertical.
        width: Standard deviation across the line, in pixels.
    """
    half = length / 2
    radius = math.ceil(half + 2 * width)
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1].astype(np.float32)
    sine, cosine = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    across = x * cosine - y * sine
    beyond_end = np.maximum(np.abs(x * sine + y * cosine) - half, 0)
    kernel = np.exp(-(across**2 + beyond_end**2) / (2 * width**2))
    return np.asarray(kernel / kernel.sum(), np.float32)


def aperture_kernel(radius: float, blades: int, turn: float, softness: float) -> NDArray[np.float32]:
    """Returns the image of a point out of focus, float32 (K, K), which sums to 1.

    Args:
        radius: Radius of the aperture's image in pixels; 0 is in focus.
        blades: Number of corners of the polygon; more than 9 make a disk.
        turn: Angle of the first corner in radians.
        softness: Width of the edge in pixels.
    """
    half = math.ceil(radius + 2 * softness)
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float32)
    distance = np.hypot(x, y)
    if blades <= 9:
        sector = 2 * math.pi / blades
        offset = np.mod(np.arctan2(y, x) - turn, sector) - sector / 2
        distance = distance * np.cos(offset) / math.cos(sector / 2) ** 0.5  # keeps about the disk's area
    kernel = 1 / (1 + np.exp(np.clip((distance - radius) / max(softness / 2, 1e-3), -30, 30)))
    return np.asarray(kernel / kernel.sum(), np.float32)


def draw_path(count: int, step: float, rng: Generator) -> NDArray[np.float64]:
    """Draws the path of a point of light in a camera that shakes.

    Args:
        count: Number of points.
        step: Distance of two points in pixels.
        rng: The only source of randomness.

    Returns:
        x and y of the points in pixels, float64 (2, count), with mean 0.
    """
    turning = rng.normal(0, 0.08) + rng.normal(0, 0.12, count).cumsum() * 0.3
    heading = rng.uniform(0, 2 * math.pi) + turning.cumsum()
    path = np.stack([np.cos(heading), np.sin(heading)]).cumsum(axis=1) * step
    path -= path.mean(axis=1, keepdims=True)
    return path


def path_kernel(path: NDArray[np.float64]) -> NDArray[np.float32]:
    """Returns the kernel of a path, float32 (K, K), which sums to 1.

    Args:
        path: x and y of the points in pixels, (2, N); (0, 0) is the centre of the kernel.
    """
    half = math.ceil(np.abs(path).max()) + 1
    kernel = np.zeros((2 * half + 1, 2 * half + 1))
    for x, y in path.T + half:  # each point is spread over the four pixels around it
        column, row = math.floor(x), math.floor(y)
        for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):
            kernel[row + dy, column + dx] += (1 - abs(y - row - dy)) * (1 - abs(x - column - dx))
    return np.asarray(kernel / kernel.sum(), np.float32)


def gaussian_kernel(first: float, second: float, angle: float, radius: int) -> NDArray[np.float32]:
    """Returns an anisotropic Gaussian, float32 (2 radius + 1, 2 radius + 1), which sums to 1.

    Args:
        first: Standard deviation along the first axis, in pixels.
        second: Standard deviation along the second axis, in pixels.
        angle: Direction of the first axis in radians from the horizontal.
        radius: Radius of the kernel in pixels.
    """
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1].astype(np.float32)
    u, v = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    kernel = np.exp(-((u / first) ** 2 + (v / second) ** 2) / 2)
    return np.asarray(kernel / kernel.sum(), np.float32)
