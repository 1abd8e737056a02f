"""PNG and TIFF files of more than 8 bits a channel, which Pillow would reduce to 8 or not read at all."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from PIL import ExifTags, Image

from opera_env.data.exif import filter_exif
from opera_env.data.metadata import clean_dpi, clean_xmp, multi_frame_notices
from opera_env.data.photo import Photo, Pixels, suffix_notices
from opera_env.data.pixels import apply_orientation, split_alpha

_TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_UINT16_MAX = np.uint16(65535)


def is_16bit_png(path: Path) -> bool:
    """Returns whether a PNG file has 16 bits per channel."""
    with path.open("rb") as file:
        return file.read(25)[24] == 16


def decode_16bit_png(path: Path) -> Pixels:
    """Decodes a PNG file to uint16 (H, W, C), C from 1 to 4 with alpha last."""
    return np.atleast_3d(imagecodecs.png_decode(path.read_bytes()))


def is_16bit_tiff(path: Path) -> bool:
    """Returns whether a file is a TIFF file with more than 8 bits per channel."""
    with path.open("rb") as file:
        if file.read(4) not in _TIFF_SIGNATURES:
            return False
    try:
        with tifffile.TiffFile(path) as file:
            return np.max(_first_page(file).bitspersample) > 8
    except Exception:  # noqa: BLE001 - Pillow then says what is wrong with the file
        return False


def read_16bit_tiff_size(path: Path) -> tuple[int, int]:
    """Reads the height and the width of the first image of a TIFF file, before orientation is applied."""
    with tifffile.TiffFile(path) as file:
        page = _first_page(file)
        return int(page.imagelength), int(page.imagewidth)


def read_16bit_tiff(path: Path) -> Photo:
    """Reads a TIFF file of grey or RGB with 9 to 16 bits a channel."""
    with path.open("rb") as stored, tifffile.TiffFile(stored) as file:
        page = _first_page(file)
        notices = [*suffix_notices(path, "TIFF"), *multi_frame_notices(len(file.pages))]
        pixels = _decode_16bit_tiff(page, notices)

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
            icc=page.iccprofile,
            exif=exif,
            xmp=clean_xmp(page.tags.valueof(ExifTags.Base.XMLPacket)),
            dpi=clean_dpi(page.get_resolution("inch")) if page.resolutionunit > 1 else None,
            notices=tuple(notices),
        )


def _first_page(file: tifffile.TiffFile) -> Any:
    return file.pages[0]


def _decode_16bit_tiff(page: Any, notices: list[str]) -> Pixels:
    """Decodes grey or RGB of 9 to 16 bits to uint16 (H, W, C), C from 1 to 4 with alpha last."""
    photometric = _check_page(page)
    pixels = page.asarray()
    if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE and pixels.ndim == 3:
        pixels = np.moveaxis(pixels, 0, -1)
    pixels = np.atleast_3d(pixels)
    if page.bitspersample < 16:
        max_level = 2**page.bitspersample - 1
        pixels = pixels.astype(np.uint32) * _UINT16_MAX + max_level // 2
        pixels = (pixels // max_level).astype(np.uint16)
    colours, extra = np.split(pixels, [3 if photometric == "RGB" else 1], axis=2)
    if photometric == "MINISWHITE":
        colours = _UINT16_MAX - colours
    return _append_alpha(colours, extra, tuple(page.extrasamples), notices)


def _check_page(page: Any) -> str:
    """Raises an error for a page that is not a photograph; returns the name of its colour space."""
    count = page.imagewidth * page.imagelength
    if Image.MAX_IMAGE_PIXELS is not None and count > 2 * Image.MAX_IMAGE_PIXELS:  # the limit of Pillow
        raise Image.DecompressionBombError(f"{count} pixels, at most {2 * Image.MAX_IMAGE_PIXELS}")
    photometric = tifffile.PHOTOMETRIC(page.photometric).name
    if photometric not in ("MINISBLACK", "MINISWHITE", "RGB"):
        raise ValueError(f"16-bit TIFF files must be grey or RGB, this one is {photometric}")
    if page.dtype != np.uint16:
        raise ValueError(f"expected whole numbers of 8 or 16 bits, found {page.dtype}")
    if page.imagedepth > 1 or page.samplesperpixel > 8:
        raise ValueError(f"not a photograph, its shape is {page.shape}")
    pieces = math.prod(page.chunked)
    if not len(page.dataoffsets) == len(page.databytecounts) == pieces or 0 in page.databytecounts:
        raise ValueError("parts of it are absent")  # tifffile would decode them as black
    return photometric


def _append_alpha(colours: Pixels, extra: Pixels, kinds: tuple[int, ...], notices: list[str]) -> Pixels:
    """Appends the alpha channel, if any, of the channels beside the colours.

    Args:
        colours: uint16 (H, W, 1 or 3).
        extra: uint16 (H, W, E), the other channels.
        kinds: The TIFF code of each of them; 1 is premultiplied alpha and 2 is straight alpha.
        notices: A notice of channels that are left out is appended.
    """
    alpha_index = next((number for number, kind in enumerate(kinds) if kind in (1, 2)), None)
    if extra.shape[2] > (alpha_index is not None):
        notices.append("channels beside its colours are left out")
    if alpha_index is None:
        return colours
    alpha = extra[..., alpha_index : alpha_index + 1]
    if kinds[alpha_index] == 1:
        straight = colours.astype(np.uint32) * _UINT16_MAX // np.maximum(alpha, 1)
        colours = np.minimum(straight, _UINT16_MAX).astype(np.uint16)
    return np.concatenate([colours, alpha], axis=2)
