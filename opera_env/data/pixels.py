"""Arrays of pixels as image files store them: orientation and transparency."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from opera_env.data.photo import Pixels

PixelDtype = TypeVar("PixelDtype", bound=np.generic)


def apply_orientation(pixels: NDArray[PixelDtype], orientation: int) -> NDArray[PixelDtype]:
    """Returns stored pixels as a viewer shows them.

    Args:
        pixels: (H, W) or (H, W, C).
        orientation: EXIF orientation, 1 to 8; any other number leaves the pixels as they are.
    """
    if orientation in (5, 6, 7, 8):
        pixels = np.swapaxes(pixels, 0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def split_alpha(pixels: Pixels) -> tuple[Pixels, Pixels | None]:
    """Splits pixels (H, W, C) into colours (H, W, 1 or 3) and alpha (H, W), which may be None."""
    channels = pixels.shape[2]
    if channels in (2, 4):
        return np.ascontiguousarray(pixels[..., :-1]), np.ascontiguousarray(pixels[..., -1])
    return pixels, None
