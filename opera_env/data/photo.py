"""A photograph in memory with the metadata of its file, and the file formats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

Pixels: TypeAlias = NDArray[np.uint8 | np.uint16]
"""Pixels as a file stores them, uint8 or uint16."""

_STRIP_ROWS = 256
"""Rows that are converted at once, so that a large photograph is not held twice as floats."""


@dataclass(frozen=True)
class Format:
    """The properties of a file format.

    Attributes:
        suffixes: Suffixes of its files; the first is the usual one.
        supports_16bit: Whether it stores 16 bits a channel.
        alpha: Whether it stores transparency.
        metadata: Whether it stores a colour profile, EXIF and XMP.
        max_side: Longest side in pixels; None if there is no practical limit.
    """

    suffixes: tuple[str, ...]
    supports_16bit: bool = False
    alpha: bool = True
    metadata: bool = True
    max_side: int | None = None


FORMATS: Mapping[str, Format] = {
    "PNG": Format((".png",), supports_16bit=True),
    "JPEG": Format((".jpg", ".jpeg", ".jpe", ".jfif"), alpha=False, max_side=65500),
    "TIFF": Format((".tif", ".tiff"), supports_16bit=True),
    "WEBP": Format((".webp",), max_side=16383),
    "BMP": Format((".bmp",), alpha=False, metadata=False),
}
"""The formats in which photographs are read and written, under Pillow's names."""


def format_from_name(path: Path | str) -> str | None:
    """Returns the format of the suffix of a file, or None if no format of :data:`FORMATS` has it.

    Example:
        >>> format_from_name("holiday.JPG")
        'JPEG'
    """
    suffix = Path(path).suffix.lower()
    return next((name for name, format_spec in FORMATS.items() if suffix in format_spec.suffixes), None)


def suffix_notices(path: Path | str, format_name: str) -> tuple[str, ...]:
    """Returns the notice for a file whose name and content have different formats.

    Example:
        >>> suffix_notices("holiday.jpg", "PNG"), suffix_notices("holiday.png", "PNG")
        (('its name says JPEG, its content is PNG',), ())
    """
    named = format_from_name(path)
    if named == format_name:
        return ()
    return (f"its name says {named or 'no format that is known here'}, its content is {format_name}",)


@dataclass(frozen=True, eq=False)
class Photo:
    """A photograph in memory, upright.

    Attributes:
        pixels: uint8 or uint16 (H, W, C); C is 1 for a grey photograph, 3 for RGB.
        alpha: Opacity, (H, W) of the same dtype, or None.
        format: Format of the file, a key of :data:`FORMATS`.
        icc: Colour profile of the file; the pixels are not converted.
        exif: EXIF data without the orientation, which has been applied.
        xmp: XMP data with an upright orientation.
        dpi: Horizontal and vertical resolution for printing, in dots per inch.
        colour_chunks: Kind and data of the chunks of a PNG file that say, beside a profile, what its levels
            mean: gAMA, cHRM, sRGB and cICP.
        lossless: Whether a WebP file is encoded without loss.
        notices: Messages for the user: what could not be kept, and a name that does not fit the content.
    """

    pixels: Pixels
    alpha: Pixels | None = None
    format: str = "PNG"
    icc: bytes | None = None
    exif: Image.Exif | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    colour_chunks: tuple[tuple[bytes, bytes], ...] = ()
    lossless: bool = False
    notices: tuple[str, ...] = ()

    @property
    def bits(self) -> int:
        """Bits per channel, 8 or 16."""
        return 8 * self.pixels.dtype.itemsize

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.pixels.shape[0], self.pixels.shape[1]

    def tensor(self) -> Tensor:
        """Returns the colours as float32 (3, H, W) in [0, 1]."""
        height, width = self.size
        image = torch.empty(3, height, width)
        for top in range(0, height, _STRIP_ROWS):
            strip = (
                self.pixels[top : top + _STRIP_ROWS].astype(np.float32) / np.iinfo(self.pixels.dtype).max
            )
            image[:, top : top + _STRIP_ROWS] = torch.from_numpy(strip).permute(2, 0, 1)
        return image

    def with_image(self, image: Tensor) -> Photo:
        """Returns the same photograph with other colours, rounded to its bit depth.

        Args:
            image: float (3, H', W'), which is clamped to [0, 1]. A grey photograph takes its luma;
                transparency is resampled if the size has changed.
        """
        height, width = int(image.shape[-2]), int(image.shape[-1])
        dtype = self.pixels.dtype
        pixels = np.empty((height, width, self.pixels.shape[2]), dtype)
        for top in range(0, height, _STRIP_ROWS):
            strip = image[:, top : top + _STRIP_ROWS].to("cpu", torch.float32, copy=True)
            if pixels.shape[2] == 1:
                strip = (strip * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(0, keepdim=True)
            levels = strip.clamp_(0, 1).mul_(float(np.iinfo(dtype).max)).round_()
            pixels[top : top + _STRIP_ROWS] = levels.permute(1, 2, 0).numpy().astype(dtype)
        alpha = self.alpha
        if alpha is not None and alpha.shape != (height, width):
            alpha = cv2.resize(alpha, (width, height), interpolation=cv2.INTER_CUBIC)
        return replace(self, pixels=pixels, alpha=alpha)
