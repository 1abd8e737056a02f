"""A photograph and what else its file says: the colours are mended, the rest is kept."""

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

_STRIP = 256
"""Rows converted at once: large photographs are never held twice as floats."""


@dataclass(frozen=True)
class Format:
    """What a file format can hold.

    Attributes:
        suffixes: Names of files end in one of these; the first is the usual one.
        deep: Whether it holds 16 bits a channel.
        alpha: Whether it holds transparency.
        metadata: Whether it holds a colour profile, EXIF and XMP.
        max_side: In pixels; None if there is no limit worth naming.
    """

    suffixes: tuple[str, ...]
    deep: bool = False
    alpha: bool = True
    metadata: bool = True
    max_side: int | None = None


FORMATS: Mapping[str, Format] = {
    "PNG": Format((".png",), deep=True),
    "JPEG": Format((".jpg", ".jpeg", ".jpe", ".jfif"), alpha=False, max_side=65500),
    "TIFF": Format((".tif", ".tiff"), deep=True),
    "WEBP": Format((".webp",), max_side=16383),
    "BMP": Format((".bmp",), alpha=False, metadata=False),
}
"""The formats that photographs are read from and written to, under Pillow's names."""


def format_from_name(path: Path | str) -> str | None:
    """Returns the format that a file's name promises, None if it is none of ours.

    Example:
        >>> format_from_name("holiday.JPG")
        'JPEG'
    """
    suffix = Path(path).suffix.lower()
    return next((name for name, known in FORMATS.items() if suffix in known.suffixes), None)


@dataclass(frozen=True, eq=False)
class Photo:
    """A photograph in memory, upright.

    Attributes:
        pixels: uint8 or uint16 (H, W, C); C is 1 for a grey photograph, 3 for RGB.
        alpha: Opacity, (H, W) of the same type, or None.
        format: A key of :data:`FORMATS`.
        icc: Colour profile, as the file has it. Pixels are not converted.
        exif: What the camera noted, less the orientation, which has been applied.
        xmp: What editors noted, likewise.
        dpi: Resolution for printing.
        lossless: Whether a WebP file was stored without loss.
        notices: What of the file could not be kept, in words.
    """

    pixels: Pixels
    alpha: Pixels | None = None
    format: str = "PNG"
    icc: bytes | None = None
    exif: Image.Exif | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    lossless: bool = False
    notices: tuple[str, ...] = ()

    @property
    def bits(self) -> int:
        """Bits a channel, 8 or 16."""
        return 8 * self.pixels.dtype.itemsize

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.pixels.shape[0], self.pixels.shape[1]

    def tensor(self) -> Tensor:
        """Returns the colours as float32 (3, H, W) in [0, 1]."""
        height, width = self.size
        image = torch.empty(3, height, width)
        for top in range(0, height, _STRIP):
            strip = self.pixels[top : top + _STRIP].astype(np.float32) / np.iinfo(self.pixels.dtype).max
            image[:, top : top + _STRIP] = torch.from_numpy(strip).permute(2, 0, 1)
        return image

    def with_image(self, image: Tensor) -> Photo:
        """Returns the same photograph with other colours, rounded to its depth.

        Args:
            image: float (3, H', W'), clamped to [0, 1]. A grey photograph takes its luma; transparency
                is resampled if the size has changed.
        """
        height, width = int(image.shape[-2]), int(image.shape[-1])
        dtype = self.pixels.dtype
        pixels = np.empty((height, width, self.pixels.shape[2]), dtype)
        for top in range(0, height, _STRIP):
            strip = image[:, top : top + _STRIP].to("cpu", torch.float32, copy=True)
            if pixels.shape[2] == 1:
                strip = (strip * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(0, keepdim=True)
            levels = strip.clamp_(0, 1).mul_(float(np.iinfo(dtype).max)).round_()
            pixels[top : top + _STRIP] = levels.permute(1, 2, 0).numpy().astype(dtype)
        alpha = self.alpha
        if alpha is not None and alpha.shape != (height, width):
            alpha = cv2.resize(alpha, (width, height), interpolation=cv2.INTER_CUBIC)
        return replace(self, pixels=pixels, alpha=alpha)
