"""Checks of a page of a TIFF file before it is decoded: what it is, how large, and whether it is whole."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from PIL import Image
from tifffile import COMPRESSION, PHOTOMETRIC

from opera_env.data.claims import check_claim
from opera_env.data.read_jpeg import MAX_SCANS, read_structure
from opera_env.data.read_png import cut_short
from opera_env.errors import ImageFileError

_CODECS = {
    COMPRESSION.NONE: "raw",
    COMPRESSION.CCITTRLE: "fax",
    COMPRESSION.CCITTFAX3: "fax",
    COMPRESSION.CCITTFAX4: "fax",
    COMPRESSION.LZW: "lzw",
    COMPRESSION.JPEG: "jpeg",
    COMPRESSION.ADOBE_DEFLATE: "deflate",
    COMPRESSION.DEFLATE: "deflate",
    COMPRESSION.PACKBITS: "packbits",
    COMPRESSION.LZMA: "lzma",
    COMPRESSION.ZSTD_DEPRECATED: "zstd",
    COMPRESSION.ZSTD: "zstd",
}
"""Compressions that are decoded, and their names in :mod:`opera_env.data.claims`.

Others, such as JPEG 2000, are files of their own within the file: their headers could claim any size.
"""

_NAMES = {
    COMPRESSION.OJPEG: "old-style JPEG",
    COMPRESSION.JBIG_BW: "JBIG",
    COMPRESSION.JBIG_COLOR: "JBIG",
    COMPRESSION.JBIG: "JBIG",
    COMPRESSION.JBIG2: "JBIG2",
    COMPRESSION.THUNDERSCAN: "ThunderScan",
    COMPRESSION.PIXARLOG: "PixarLog",
    COMPRESSION.SGILOG: "SGI Log",
    COMPRESSION.SGILOG24: "SGI Log",
    COMPRESSION.APERIO_JP2000_YCBC: "JPEG 2000",
    COMPRESSION.JPEG_2000_LOSSY: "JPEG 2000",
    COMPRESSION.APERIO_JP2000_RGB: "JPEG 2000",
    COMPRESSION.JPEG2000: "JPEG 2000",
    COMPRESSION.LERC: "LERC",
    COMPRESSION.JPEG_LOSSY: "lossy JPEG",
    COMPRESSION.PNG: "PNG",
    COMPRESSION.JPEGXR: "JPEG XR",
    COMPRESSION.JPEGXR_NDPI: "JPEG XR",
    COMPRESSION.WEBP: "WebP",
    COMPRESSION.WEBP_DEPRECATED: "WebP",
    COMPRESSION.JPEGXL: "JPEG XL",
    COMPRESSION.JPEGXL_DNG: "JPEG XL",
}

_BITS_PER_SAMPLE, _PHOTOMETRIC = 258, 262
_DNG_VERSION = 50706
_SENSOR = (PHOTOMETRIC.CFA, PHOTOMETRIC.LINEAR_RAW)

_PART_BYTES = 2**20
"""Bytes of a strip or tile beside its pixels."""

_LARGEST_TILE = 2**24
"""Pixels of a tile; a tile may be larger than the image."""


def check_page(path: Path, page: Any) -> None:
    """Checks the header of a page.

    Raises:
        ImageFileError: If the page is no photograph that can be decoded, or too large.
    """
    if _is_camera_raw(page):
        raise ImageFileError(
            path,
            "a raw photograph of a camera is not supported: develop it, and save it as TIFF, PNG or JPEG",
        )
    if page.compression not in _CODECS:
        name = _NAMES.get(page.compression, f"number {int(page.compression)}")
        raise ImageFileError(
            path,
            f"TIFF with the compression {name} is not supported: save it with LZW, Deflate or none",
        )
    if page.imagewidth < 1 or page.imagelength < 1:
        raise ImageFileError(path, f"damaged: an image of {page.imagewidth} x {page.imagelength} pixels")
    for tag, name, needed in (
        (_PHOTOMETRIC, "PhotometricInterpretation", True),
        (_BITS_PER_SAMPLE, "BitsPerSample", page.samplesperpixel > 1),
    ):
        if needed and tag not in page.tags:  # tifffile would take the default, and pixels would be noise
            raise ImageFileError(path, f"damaged: it lacks the tag {name}")
    depths = page.bitspersample  # a tuple if channels differ
    bits = sum(depths) if isinstance(depths, tuple) else depths * page.samplesperpixel
    count = page.imagewidth * page.imagelength
    if Image.MAX_IMAGE_PIXELS is not None and count > 2 * Image.MAX_IMAGE_PIXELS:  # the limit of Pillow
        raise Image.DecompressionBombError(f"{count} pixels, at most {2 * Image.MAX_IMAGE_PIXELS}")
    check_claim(path, page.imagewidth, page.imagelength, _CODECS[page.compression], max(1, bits))
    if page.is_tiled and page.tilewidth * page.tilelength > _LARGEST_TILE:
        raise ImageFileError(path, f"damaged: a tile of {page.tilewidth} x {page.tilelength} pixels")


def _is_camera_raw(page: Any) -> bool:
    """Returns whether a file holds the values of a sensor, beside which its first page is a preview."""
    if _DNG_VERSION in page.tags or page.photometric in _SENSOR:
        return True
    return bool(page.subifds) and any(part.photometric in _SENSOR for part in page.pages or ())


def check_parts(path: Path, page: Any) -> None:
    """Checks that all strips or tiles of a page are in the file.

    Raises:
        ImageFileError: If one is absent or cut short, or claims to be larger than the page.
    """
    offsets, counts = page.dataoffsets, page.databytecounts
    pieces = math.prod(page.chunked)
    if not len(offsets) == len(counts) == pieces or 0 in counts:
        raise ImageFileError(path, "cannot be read: parts of it are absent")  # they would be black
    length = path.stat().st_size
    there = sum(max(0, min(count, length - offset)) for offset, count in zip(offsets, counts, strict=True))
    if there < sum(counts):
        raise ImageFileError(path, cut_short(there / sum(counts)))
    if page.compression == COMPRESSION.JPEG:
        _check_jpeg_parts(path, page)


def _check_jpeg_parts(path: Path, page: Any) -> None:
    """Checks that no strip or tile is larger than the page says: each has a header of its own."""
    height = page.tilelength if page.is_tiled else page.rowsperstrip
    width = page.tilewidth if page.is_tiled else page.imagewidth
    with path.open("rb") as file:
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
            file.seek(offset)
            structure = read_structure(file.read(min(count, _PART_BYTES + 16 * width * height)))
            if structure.scans > MAX_SCANS:
                raise ImageFileError(path, f"refused: a part has {structure.scans} scans")
            if structure.width > width + 15 or structure.height > height + 15:
                raise ImageFileError(
                    path, f"damaged: a part claims {structure.width} x {structure.height} pixels"
                )
