"""Images that the tests of degradations share, and the largest difference of two of them."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.random import default_rng
from numpy.typing import NDArray
from skimage import data

Uint8Image = NDArray[np.uint8]


@cache
def astronaut() -> Uint8Image:
    return data.astronaut()


def small_image(seed: int, height: int = 40, width: int = 48) -> Uint8Image:
    """A photograph's corner, colour noise, smooth colours or hard black and white, by seed."""
    rng = default_rng(seed)
    kind = seed % 4
    if kind == 0:
        photo = astronaut()
        top, left = rng.integers(0, 512 - height), rng.integers(0, 512 - width)
        return np.ascontiguousarray(photo[top : top + height, left : left + width])
    if kind == 1:
        return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    if kind == 2:
        ends = rng.uniform(0, 255, (4, 3))
        y, x = np.linspace(0, 1, height)[:, None, None], np.linspace(0, 1, width)[None, :, None]
        top, bottom = ends[0] * (1 - x) + ends[1] * x, ends[2] * (1 - x) + ends[3] * x
        return (top * (1 - y) + bottom * y).astype(np.uint8)
    return (rng.random((height, width, 3)) < 0.5).astype(np.uint8) * np.uint8(255)


def max_abs_difference(a: NDArray, b: NDArray) -> int:
    assert a.shape == b.shape
    assert a.dtype == b.dtype == np.uint8
    return int(np.abs(a.astype(int) - b.astype(int)).max())
