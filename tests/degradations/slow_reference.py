"""Slow and plain implementations of the eight degradations, with which the fast ones are compared.

Written with loops and textbook formulas: no image library but
Pillow's JPEG codec, no vectorised filter. Nothing here is shared with opera_env.degradations.
Where an operator draws random numbers per pixel, the reference takes those numbers.
"""

from __future__ import annotations

import colorsys
import io
import math
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Plane = NDArray[np.float64]
Uint8Image = NDArray[np.uint8]


def quantise(values: NDArray[np.floating]) -> Uint8Image:
    """Rounds to the nearest grey level and clips."""
    return np.minimum(np.maximum(np.floor(values + 0.5), 0), 255).astype(np.uint8)


def replicated(index: int, size: int) -> int:
    """Border rule aaa|abcd|ddd."""
    return min(max(index, 0), size - 1)


def mirrored_inside(index: int, size: int) -> int:
    """Border rule dcb|abcd|cba: the edge pixel itself is not repeated."""
    while not 0 <= index < size:
        if size == 1:
            return 0
        index = -index if index < 0 else 2 * (size - 1) - index
    return index


def mirrored_edge(index: int, size: int) -> int:
    """Border rule cba|abcd|dcb: the edge pixel is repeated (MATLAB's imresize)."""
    while not 0 <= index < size:
        index = -1 - index if index < 0 else 2 * size - 1 - index
    return index


def taken(image: NDArray, down: int, right: int, border: Callable[[int, int], int]) -> NDArray:
    """Returns the image whose pixel (y, x) is pixel (y + down, x + right) of ``image``."""
    height, width = image.shape[:2]
    rows = [border(y + down, height) for y in range(height)]
    columns = [border(x + right, width) for x in range(width)]
    return image[rows][:, columns]


def correlate(image: NDArray, kernel: Plane, border: Callable[[int, int], int]) -> Plane:
    """Adds up shifted copies; the origin of the kernel is its pixel (rows // 2, columns // 2)."""
    total = np.zeros(image.shape, np.float64)
    rows, columns = kernel.shape
    for row in range(rows):
        for column in range(columns):
            if kernel[row, column] != 0:
                shifted = taken(image, row - rows // 2, column - columns // 2, border)
                total += kernel[row, column] * shifted.astype(np.float64)
    return total


def motion_taps(radius: int, sigma: float, angle: float) -> Iterator[tuple[float, int, int]]:
    """Yields (weight, down, right) of each whole-pixel step along the line, weights adding to 1."""
    weights = [math.exp(-step * step / (2 * sigma * sigma)) for step in range(2 * radius + 1)]
    theta = math.pi * angle / 180
    for step, weight in enumerate(weights):
        down = math.ceil(step * math.sin(theta) - 0.5)
        right = math.ceil(step * math.cos(theta) - 0.5)
        yield weight / sum(weights), down, right


def motion_blur(image: Uint8Image, radius: int, sigma: float, angle: float) -> Uint8Image:
    total = np.zeros(image.shape, np.float64)
    for weight, down, right in motion_taps(radius, sigma, angle):
        total += weight * taken(image, down, right, replicated).astype(np.float64)
    return quantise(total)


def disk_kernel(radius: int, sigma: float) -> Plane:
    """A disk of ones, normalised, its rim softened by a 3x3 Gaussian."""
    disk = np.zeros((17, 17))
    for y in range(-8, 9):
        for x in range(-8, 9):
            if y * y + x * x <= radius * radius:
                disk[y + 8, x + 8] = 1
    disk /= disk.sum()
    side = math.exp(-1 / (2 * sigma * sigma))
    line = [side / (1 + 2 * side), 1 / (1 + 2 * side), side / (1 + 2 * side)]
    return correlate(disk, np.array([[a * b for b in line] for a in line]), mirrored_inside)


def defocus_blur(image: Uint8Image, radius: int, sigma: float) -> Uint8Image:
    return quantise(correlate(image, disk_kernel(radius, sigma), mirrored_inside))


def rain_kernel(length: int, angle: float) -> Plane:
    """A diagonal line, turned to ``angle`` from the vertical, shrunk, three pixels wide."""
    centre, scale = length / 2, 1 - length / 100
    theta = math.pi * (angle - 45) / 180
    line = np.zeros((length, length))
    for y in range(length):
        for x in range(length):
            across, along = (x - centre) / scale, (y - centre) / scale
            from_x = centre + math.cos(theta) * across - math.sin(theta) * along
            from_y = centre + math.sin(theta) * across + math.cos(theta) * along
            left, top = math.floor(from_x), math.floor(from_y)
            for j in (top, top + 1):
                for i in (left, left + 1):
                    if i == j and 0 <= i < length:  # only the diagonal is set
                        line[y, x] += (1 - abs(from_x - i)) * (1 - abs(from_y - j))
    binomial = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16
    return correlate(line, binomial, mirrored_inside)


def rain_layer(uniform: Plane, amount: int, kernel: Plane) -> Uint8Image:
    """Makes the layer of rain from one number in [0, 256) a pixel."""
    height, width = uniform.shape
    drops = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            if uniform[y, x] >= 256 - 0.01 * amount:
                drops[y, x] = uniform[y, x]
    cross = np.array([[0, 0.1, 0], [0.1, 8, 0.1], [0, 0.1, 0]])
    layer = correlate(correlate(drops, cross, mirrored_inside), kernel, mirrored_inside)
    low, high = layer.min(), layer.max()
    if high == low:
        return np.zeros((height, width), np.uint8)
    return np.floor(255 * (layer - low) / (high - low)).astype(np.uint8)


def rain(image: Uint8Image, uniform: Plane, amount: int, kernel: Plane) -> Uint8Image:
    layer = rain_layer(uniform, amount, kernel)
    result = np.zeros(image.shape, np.uint8)
    for channel in range(3):
        result[..., channel] = quantise(image[..., channel].astype(np.float64) + layer)
    return result


def haze(image: Uint8Image, airlight: float, beta: float, depth: NDArray[np.floating]) -> Uint8Image:
    result = np.zeros(image.shape, np.float64)
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            t = math.exp(-beta * float(depth[y, x]))
            for channel in range(3):
                result[y, x, channel] = int(image[y, x, channel]) * t + 255 * airlight * (1 - t)
    return quantise(result)


def jpeg(image: Uint8Image, quality: int) -> Uint8Image:
    """Compresses with another codec: Pillow, 4:2:0."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
    return np.asarray(Image.open(buffer).convert("RGB"))


def cubic(x: float, a: float) -> float:
    """Keys' cubic convolution kernel."""
    x = abs(x)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    if x < 2:
        return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
    return 0.0


def shrink_rows(image: NDArray[np.floating], factor: int) -> Plane:
    """MATLAB's antialiased bicubic along the first axis, with its 1-based arithmetic."""
    size = image.shape[0]
    scale = 1 / factor
    result = np.zeros((math.ceil(size * scale), *image.shape[1:]))
    for x in range(1, result.shape[0] + 1):
        u = x / scale + 0.5 * (1 - 1 / scale)
        left = math.floor(u - 4 * factor / 2)
        taps = range(left, left + 4 * factor + 2)
        weights = [scale * cubic(scale * (u - tap), -0.5) for tap in taps]
        for tap, weight in zip(taps, weights, strict=True):
            result[x - 1] += weight / sum(weights) * image[mirrored_edge(tap - 1, size)]
    return result


def low_resolution(image: Uint8Image) -> Uint8Image:
    rows = shrink_rows(image.astype(np.float64), 4)
    return quantise(shrink_rows(rows.swapaxes(0, 1), 4).swapaxes(0, 1))


def enlarge_cubic(plane: NDArray[np.floating], size: tuple[int, int]) -> Plane:
    """Plain bicubic enlargement with a = -0.75, pixel centres aligned, edges replicated."""
    for axis in (0, 1):
        old = plane.shape[axis]
        lines = np.moveaxis(plane, axis, 0).astype(np.float64)
        out = np.zeros((size[axis], lines.shape[1]))
        for x in range(size[axis]):
            u = (x + 0.5) * old / size[axis] - 0.5
            for tap in range(math.floor(u) - 1, math.floor(u) + 3):
                out[x] += cubic(u - tap, -0.75) * lines[replicated(tap, old)]
        plane = np.moveaxis(out, 0, axis)
    return plane


def low_light(image: Uint8Image, kind: str, amount: float) -> Uint8Image:
    """Darkens V of HSV, which is the largest of red, green and blue."""
    values = [max(int(v) for v in pixel) for row in image for pixel in row]
    low, high = min(values), max(values)
    result = np.zeros(image.shape, np.float64)
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            hue, saturation, value = colorsys.rgb_to_hsv(*(int(v) / 255 for v in image[y, x]))
            if kind == "shift":
                value = max(255 * value - amount, 0)
            elif kind == "gamma":
                value = 255 * value ** (1 / amount)
            else:
                value = amount * (255 * value - low) / (high - low) if high > low else 0.0
            value = round(value) / 255
            result[y, x] = [255 * v for v in colorsys.hsv_to_rgb(hue, saturation, value)]
    return quantise(result)


def gaussian_noise(image: Uint8Image, sigma: float, normal: NDArray[np.floating]) -> Uint8Image:
    result = np.zeros(image.shape, np.float64)
    for index in np.ndindex(*image.shape):
        result[index] = int(image[index]) + sigma * float(normal[index])
    return quantise(result)


def photons(image: Uint8Image) -> int:
    """Photons that make white: the power of two not below the number of grey levels in use."""
    levels = len(set(image.reshape(-1).tolist()))
    count = 1
    while count < levels:
        count *= 2
    return count


def poisson_noise(image: Uint8Image, scale: float, rng: np.random.Generator) -> Uint8Image:
    white = photons(image)
    counts = rng.poisson(image / 255 * white)
    result = np.zeros(image.shape, np.float64)
    for index in np.ndindex(*image.shape):
        clean = int(image[index]) / 255
        result[index] = 255 * (clean + scale * (int(counts[index]) / white - clean))
    return quantise(result)
