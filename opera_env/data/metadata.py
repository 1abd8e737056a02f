"""Checks of metadata other than EXIF: XMP and the resolution for printing."""

from __future__ import annotations

import re
from typing import Any

_MAX_DPI = 65535
"""Largest resolution that a JPEG file can store; larger values are treated as damaged metadata."""


def clean_xmp(xmp: Any) -> bytes | None:
    """Returns XMP data with an upright orientation, or None if there is none."""
    if isinstance(xmp, str):
        xmp = xmp.encode()
    if not isinstance(xmp, bytes) or not xmp:
        return None
    return re.sub(rb'(tiff:Orientation(?:="|>))\d', rb"\g<1>1", xmp)


def clean_dpi(dpi: Any) -> tuple[float, float] | None:
    """Returns the horizontal and vertical resolution, or None if they are not plausible numbers."""
    try:
        horizontal, vertical = (float(value) for value in dpi)
    except (TypeError, ValueError, ArithmeticError):
        return None
    plausible = 0 < horizontal < _MAX_DPI and 0 < vertical < _MAX_DPI
    return (horizontal, vertical) if plausible else None


def multi_frame_notices(count: int) -> list[str]:
    """Returns the notice for a file with ``count`` images; empty for one image."""
    return [f"only the first of its {count} images is read"] if count > 1 else []
