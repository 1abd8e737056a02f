"""TIFF pages of luma and chroma without JPEG, where one pair of chroma belongs to several pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import tifffile
from PIL import Image

from opera_env.data.photo import Pixels

_SUBSAMPLING = 530


def decode_luma_and_chroma(page: Any) -> Pixels:
    """Decodes the strips of a page of 8 bits to RGB, uint8 (H, W, 3).

    Raises:
        ValueError: If the page has tiles, planes or a predictor, or if a strip is too short.
    """
    if page.is_tiled or page.planarconfig != 1 or page.predictor != 1 or page.samplesperpixel != 3:
        raise ValueError("YCbCr with tiles, planes, a predictor or more channels is not supported: use RGB")
    across, down = (int(value) for value in page.tags.valueof(_SUBSAMPLING, (2, 2)))
    if across not in (1, 2, 4) or down not in (1, 2, 4):
        raise ValueError(f"chroma of {across} x {down} pixels is not supported")
    strips = [_decode_strip(page, index, across, down) for index in range(len(page.dataoffsets))]
    pixels = np.concatenate(strips)[: page.imagelength, : page.imagewidth]
    height, width = pixels.shape[:2]
    return np.asarray(Image.frombytes("YCbCr", (width, height), pixels.tobytes()).convert("RGB"))


def _decode_strip(page: Any, index: int, across: int, down: int) -> Pixels:
    """Returns the luma and chroma of all pixels of a strip, uint8 (rows, columns, 3)."""
    rows = min(page.rowsperstrip, page.imagelength - index * page.rowsperstrip)
    units = (-(-rows // down), -(-page.imagewidth // across), across * down + 2)
    file = page.parent.filehandle
    file.seek(page.dataoffsets[index])
    data = file.read(page.databytecounts[index])
    length = units[0] * units[1] * units[2]
    if page.compression != tifffile.COMPRESSION.NONE:
        data = tifffile.TIFF.DECOMPRESSORS[page.compression](data, out=length)
    levels = np.frombuffer(data, np.uint8)
    if len(levels) < length:
        raise ValueError(f"a strip has {len(levels)} of {length} bytes")
    levels = levels[:length].reshape(units)
    luma = levels[..., :-2].reshape(*units[:2], down, across).swapaxes(1, 2)
    luma = luma.reshape(units[0] * down, units[1] * across, 1)
    chroma = levels[..., -2:].repeat(down, axis=0).repeat(across, axis=1)
    return np.concatenate([luma, chroma], axis=2)[:rows]
