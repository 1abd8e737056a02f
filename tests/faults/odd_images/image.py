"""What an odd image file is: its bytes, and what a reader owes to it."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

Array = NDArray[Any]

HEIGHT, WIDTH = 23, 37
"""Of most images: odd, and unlike each other, so that a swap or a shift shows."""

_MADE_NOW = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
SRGB = _MADE_NOW[:24] + struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + _MADE_NOW[36:]
"""A profile with a fixed date, so that the files are always the same."""


@dataclass(frozen=True, eq=False)
class OddImage:
    """An odd image file and what is known about it.

    Attributes:
        name: Name of the file.
        data: Its bytes.
        pixels: The colours that have to be read, upright, uint8 or uint16 (H, W, 1 or 3).
        alpha: The opacity that has to be read, (H, W) of the same dtype.
        tolerance: Largest difference of a level, for lossy formats.
        icc: The profile that has to be kept; False if it is not checked.
        notice: A text that the notices have to contain; empty if it is not checked.
        refusal: A text that the error has to contain; None if the file may be read.
        size: Height and width, where the pixels are not known.
    """

    name: str
    data: bytes
    pixels: Array | None = None
    alpha: Array | None = None
    tolerance: int = 0
    icc: bytes | bool | None = False
    notice: str = ""
    refusal: str | None = None
    size: tuple[int, int] | None = None

    @property
    def must_be_read(self) -> bool:
        """Whether the file is valid and supported."""
        return self.pixels is not None or self.size is not None


def levels(height: int, width: int, channels: int, bits: int = 8, seed: int = 0) -> Array:
    """Returns a gradient with noise, (height, width, channels), of 1 to 16 bits."""
    rng = np.random.default_rng([seed, height, width, channels, bits])
    ramp = np.linspace(0, 1, height)[:, None, None] * np.linspace(1, 0.2, width)[:, None]
    noise = rng.random((height, width, channels))
    found = np.floor((0.5 * ramp + 0.5 * noise) * 2**bits)
    return found.astype(np.uint16 if bits > 8 else np.uint8)


def saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    """Returns the file that Pillow writes."""
    file = BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def stored_with(upright: Array, orientation: int) -> Array:
    """Returns the pixels that a camera stores with this EXIF orientation for an upright image."""
    turned = {5: 0, 6: 1, 7: 2, 8: 3}
    if orientation in turned:
        return {
            5: np.swapaxes(upright, 0, 1),
            6: np.rot90(upright, 1),
            7: np.swapaxes(upright, 0, 1)[::-1, ::-1],
            8: np.rot90(upright, -1),
        }[orientation]
    rows, columns = {1: (1, 1), 2: (1, -1), 3: (-1, -1), 4: (-1, 1)}.get(orientation, (1, 1))
    return upright[::rows, ::columns]


def exif(orientation: Any, order: str = "<", code: int = 3, entries: bytes = b"", count: int = 0) -> bytes:
    """Returns EXIF data with one orientation, and further entries as they are."""
    value = (
        struct.pack(f"{order}HH", orientation, 0) if code == 3 else struct.pack(f"{order}I", orientation)
    )
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    entry = struct.pack(f"{order}HHI", 0x0112, code, 1) + value
    return head + struct.pack(f"{order}H", 1 + count) + entry + entries + bytes(4)


def chunk(name: bytes, data: bytes, checksum: int | None = None) -> bytes:
    """Returns a chunk of a PNG file."""
    checksum = zlib.crc32(name + data) if checksum is None else checksum
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", checksum)


def profile(kind: bytes = b"mntr", space: bytes = b"RGB ", length: int = 0) -> bytes:
    """Returns the sRGB profile with another class or colour space, padded to a length."""
    data = SRGB[:12] + kind + space + SRGB[20:]
    return data + bytes(max(0, length - len(data)))
