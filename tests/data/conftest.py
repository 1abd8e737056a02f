"""Images whose pixels hold their coordinates, so that a shift by one pixel shows, and 16-bit PNG files."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray


def _coordinate_image(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Row in red, column in green, noise in blue; uint8 (H, W, 3), sides below 256."""
    rows, columns = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(seed).integers(0, 256, (height, width))
    return np.stack([rows, columns, noise], axis=2).astype(np.uint8)


@pytest.fixture(scope="session")
def coordinate_image() -> Callable[..., NDArray[np.uint8]]:
    return _coordinate_image


def _png_16bit(pixels: NDArray[np.uint16], *extra: tuple[bytes, bytes]) -> bytes:
    """Returns a 16-bit PNG file; neither Pillow nor OpenCV writes all kinds of them."""
    height, width, channels = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    chunks = [(b"IHDR", header), *extra, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


@pytest.fixture(scope="session")
def png_16bit() -> Callable[..., bytes]:
    return _png_16bit


def _stored_with_orientation(upright_image: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Returns the pixels that a camera stores with this EXIF orientation for an upright image."""
    return {
        1: upright_image,
        2: upright_image[:, ::-1],
        3: upright_image[::-1, ::-1],
        4: upright_image[::-1],
        5: np.swapaxes(upright_image, 0, 1),
        6: np.rot90(upright_image, 1),
        7: np.swapaxes(upright_image, 0, 1)[::-1, ::-1],
        8: np.rot90(upright_image, -1),
    }[orientation]


@pytest.fixture(scope="session")
def stored_with_orientation() -> Callable[..., NDArray[Any]]:
    return _stored_with_orientation
