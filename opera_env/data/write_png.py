"""Writes PNG files of 8 and 16 bits per channel with metadata."""

from __future__ import annotations

import struct
import zlib

import imagecodecs
import numpy as np

from opera_env.data.photo import Photo
from opera_env.data.write_parts import current_exif, interleave_alpha

_PNG_HEADER_BYTES = 8 + 25
"""Length of the signature and the header chunk, after which metadata are inserted."""

_PNG_COMPRESSION_LEVEL = 6

_METRES_PER_INCH = 0.0254


def encode_png(photo: Photo) -> bytes:
    """Returns a PNG file.

    Pillow writes no 16-bit colours and OpenCV no grey with alpha: imagecodecs encodes the pixels, and the
    chunks of metadata are inserted here.
    """
    exif = current_exif(photo)
    chunks = [_chunk(kind, data) for kind, data in photo.colour_chunks]
    if photo.icc is not None:
        chunks.append(_chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(photo.icc)))
    if photo.dpi is not None:
        horizontal, vertical = (round(dots / _METRES_PER_INCH) for dots in photo.dpi)
        chunks.append(_chunk(b"pHYs", struct.pack(">IIB", horizontal, vertical, 1)))
    if exif is not None:
        chunks.append(_chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")))
    if photo.xmp is not None:
        chunks.append(_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + photo.xmp))
    pixels = np.ascontiguousarray(interleave_alpha(photo))
    # One byte a row is added, for which imagecodecs leaves no room in images of one column.
    rows = pixels.nbytes + len(pixels)
    data = imagecodecs.png_encode(pixels, level=_PNG_COMPRESSION_LEVEL, out=rows + rows // 512 + 4096)
    return b"".join([data[:_PNG_HEADER_BYTES], *chunks, data[_PNG_HEADER_BYTES:]])


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
