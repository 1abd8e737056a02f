"""TIFF files, decoded by tifffile: Pillow reduces 16 bits to 8 and lacks some compressions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import tifffile
from PIL import ExifTags, Image

from opera_env.data.exif import filter_exif
from opera_env.data.metadata import clean_dpi, clean_xmp, multi_frame_notices
from opera_env.data.photo import Photo, suffix_notices
from opera_env.data.pixels import apply_orientation, split_alpha
from opera_env.data.tiff_page import check_page, check_parts
from opera_env.data.tiff_pixels import decode_page

_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"II\0*", b"MM*\0")
"""The last two are wrong, but Pillow takes them for TIFF."""


def is_tiff(path: Path) -> bool:
    """Returns whether a file has the signature of TIFF or BigTIFF."""
    with path.open("rb") as file:
        return file.read(4) in _SIGNATURES


@contextmanager
def _open_page(path: Path) -> Iterator[tuple[IO[bytes], tifffile.TiffFile, Any]]:
    """Opens a TIFF file and yields it with its first page, of which the header has been checked."""
    with path.open("rb") as stored, tifffile.TiffFile(stored) as file:
        page = file.pages[0]
        check_page(path, page)
        yield stored, file, page


def read_tiff_size(path: Path) -> tuple[int, int]:
    """Reads the height and the width of the first image of a TIFF file, before orientation is applied."""
    with _open_page(path) as (_, _, page):
        return int(page.imagelength), int(page.imagewidth)


def read_tiff(path: Path) -> Photo:
    """Reads the first image of a TIFF file; grey and RGB of up to 16 bits, others of 8."""
    with _open_page(path) as (stored, file, page):
        notices = [*suffix_notices(path, "TIFF"), *multi_frame_notices(len(file.pages))]
        check_parts(path, page)
        pixels, icc = decode_page(page, notices)

        def exif_data() -> Image.Exif:
            exif = Image.Exif()
            exif.bigtiff, exif.endian = file.is_bigtiff, file.byteorder
            exif.load_from_fp(stored, page.offset)
            return exif

        exif, orientation = filter_exif(exif_data, "TIFF", notices)
        colours, alpha = split_alpha(apply_orientation(pixels, orientation))
        return Photo(
            pixels=colours,
            alpha=alpha,
            format="TIFF",
            icc=icc,
            exif=exif,
            xmp=clean_xmp(page.tags.valueof(ExifTags.Base.XMLPacket)),
            dpi=_resolution(page),
            notices=tuple(notices),
        )


def _resolution(page: Any) -> tuple[float, float] | None:
    """Returns the resolution for printing, if the file has one; tifffile takes 1 for an absent one."""
    if page.resolutionunit <= 1 or ExifTags.Base.XResolution not in page.tags:
        return None
    return clean_dpi(page.get_resolution("inch"))
