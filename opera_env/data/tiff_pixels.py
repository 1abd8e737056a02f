"""Pixels of a page of a TIFF file: all colour spaces become grey or RGB of 8 or 16 bits."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
import tifffile
from PIL import Image
from tifffile import COMPRESSION, PHOTOMETRIC, PLANARCONFIG

from opera_env.data.photo import Pixels
from opera_env.data.read_8bit import SRGB, convert_to_srgb
from opera_env.data.tiff_ycbcr import decode_luma_and_chroma

_COLOURS = {
    PHOTOMETRIC.MINISWHITE: 1,
    PHOTOMETRIC.MINISBLACK: 1,
    PHOTOMETRIC.RGB: 3,
    PHOTOMETRIC.PALETTE: 1,
    PHOTOMETRIC.SEPARATED: 4,
    PHOTOMETRIC.CIELAB: 3,
    PHOTOMETRIC.YCBCR: 3,
}
"""Channels of each colour space; those of YCbCr are RGB after JPEG is decoded."""

_CONVERTED = {PHOTOMETRIC.SEPARATED: "CMYK", PHOTOMETRIC.CIELAB: "LAB"}
"""Colour spaces that become sRGB, under Pillow's names."""

_PREMULTIPLIED, _STRAIGHT = 1, 2
"""TIFF codes of channels of alpha."""


def decode_page(page: Any, notices: list[str]) -> tuple[Pixels, bytes | None]:
    """Decodes a page.

    Args:
        page: A page of tifffile, which has been checked.
        notices: A notice of each conversion is appended.

    Returns:
        uint8 or uint16 (H, W, C), C from 1 to 4 with alpha last, and the colour profile.

    Raises:
        ValueError: If the page is no photograph.
    """
    _check_kind(page)
    if page.photometric == PHOTOMETRIC.YCBCR and page.compression != COMPRESSION.JPEG:
        return decode_luma_and_chroma(page), page.iccprofile
    pixels = _read_pixels(page)
    if _has_planes(page):
        pixels = np.moveaxis(pixels, 0, -1)
    pixels = np.atleast_3d(pixels)
    if page.photometric == PHOTOMETRIC.PALETTE:
        indices, extra = np.split(pixels, [1], axis=2)
        notices.append("the palette became full colour")
        colours, extra = _look_up(page, indices[..., 0]), extra.astype(np.uint8)
        return _append_alpha(colours, extra, _extra_kinds(page, 1), notices), page.iccprofile
    colours, extra = np.split(_scale(pixels, page.bitspersample), [_COLOURS[page.photometric]], axis=2)
    profile = page.iccprofile
    if page.photometric == PHOTOMETRIC.MINISWHITE:
        colours = np.iinfo(colours.dtype).max - colours
    elif page.photometric in _CONVERTED:
        colours, profile = _convert(colours, _CONVERTED[page.photometric], profile, notices)
    return _append_alpha(colours, extra, _extra_kinds(page, extra.shape[2]), notices), profile


def _read_pixels(page: Any) -> Any:
    """Decodes a page; the last strip may be as long as the others, although some of its rows are unused.

    Some programs write such files, and decoders with a buffer for the used rows fail then.
    """
    try:
        return page.asarray()
    except RuntimeError:  # of which the errors of imagecodecs are subclasses
        unused = -page.imagelength % page.rowsperstrip
        if page.is_tiled or unused == 0 or page.rowsperstrip > page.imagelength:
            raise
        page.parent.filehandle.seek(0)
        copy = BytesIO(page.parent.filehandle.read(-1))
        with tifffile.TiffFile(copy, mode="r+") as file:
            _first_page(file).tags["ImageLength"].overwrite(page.imagelength + unused)
        copy.seek(0)
        with tifffile.TiffFile(copy) as file:
            padded = _first_page(file).asarray()
        return padded[:, : page.imagelength] if _has_planes(page) else padded[: page.imagelength]


def _first_page(file: tifffile.TiffFile) -> Any:
    return file.pages[0]


def _has_planes(page: Any) -> bool:
    return page.planarconfig == PLANARCONFIG.SEPARATE and page.samplesperpixel > 1


def _check_kind(page: Any) -> None:
    """Raises an error for a page that is not a photograph."""
    dtype = np.dtype(page.dtype) if page.dtype is not None else None
    if (
        dtype is None
        or dtype.kind not in "bu"
        or dtype.itemsize > 2
        or isinstance(page.bitspersample, tuple)
    ):
        found = dtype or f"{page.bitspersample} bits"
        raise ValueError(f"expected whole numbers of 8 or 16 bits, found {found}: convert it to 16 bits")
    colours = _COLOURS.get(page.photometric)
    if colours is None:
        name = getattr(page.photometric, "name", f"number {page.photometric}")
        raise ValueError(f"the colour space {name} is not supported: convert it to RGB")
    if page.photometric not in (PHOTOMETRIC.MINISWHITE, PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.RGB) and (
        page.bitspersample > 8
    ):
        name = PHOTOMETRIC(page.photometric).name
        raise ValueError(f"16-bit TIFF files must be grey or RGB, this one is {name}: convert it to RGB")
    if page.imagedepth > 1 or not colours <= page.samplesperpixel <= 8:
        raise ValueError(f"not a photograph, its shape is {page.shape}")


def _scale(levels: Pixels, bits: int) -> Pixels:
    """Scales levels of 1 to 16 bits to the whole range of uint8 or uint16."""
    if bits in (8, 16):
        return levels
    dtype, max_level = (np.uint8 if bits < 8 else np.uint16), 2**bits - 1
    scaled = levels.astype(np.uint32) * np.iinfo(dtype).max + max_level // 2
    return (scaled // max_level).astype(dtype)


def _look_up(page: Any, indices: Pixels) -> Pixels:
    """Returns the colours of a palette as uint8 (H, W, 3)."""
    if page.colormap is None:
        raise ValueError("it has no palette")
    return (page.colormap.T // 256).astype(np.uint8)[indices.astype(np.uint8)]


def _convert(colours: Pixels, mode: str, profile: bytes | None, notices: list[str]) -> tuple[Pixels, bytes]:
    """Converts CMYK or CIELAB to sRGB."""
    notices.append(f"{mode} colours became sRGB")
    height, width = colours.shape[:2]
    image = Image.frombytes(mode, (width, height), np.ascontiguousarray(colours).tobytes(), "raw", mode)
    return np.asarray(convert_to_srgb(image, profile, notices)), SRGB.tobytes()


def _extra_kinds(page: Any, extra: int) -> tuple[int, ...]:
    """Returns the kind of each channel beside the colours; a fourth one of RGB without a kind is alpha."""
    kinds = tuple(int(kind) for kind in page.extrasamples)
    return (_STRAIGHT,) if not kinds and extra == 1 and page.photometric == PHOTOMETRIC.RGB else kinds


def _append_alpha(colours: Pixels, extra: Pixels, kinds: tuple[int, ...], notices: list[str]) -> Pixels:
    """Appends the alpha channel, if any, of the channels beside the colours.

    Args:
        colours: uint8 or uint16 (H, W, 1 or 3).
        extra: The other channels, (H, W, E) of the same dtype.
        kinds: The TIFF code of each of them.
        notices: A notice of channels that are left out is appended.
    """
    alphas = (number for number, kind in enumerate(kinds) if kind in (_PREMULTIPLIED, _STRAIGHT))
    alpha_index = next((number for number in alphas if number < extra.shape[2]), None)
    if extra.shape[2] > (alpha_index is not None):
        notices.append("channels beside its colours are left out")
    if alpha_index is None:
        return colours
    alpha = extra[..., alpha_index : alpha_index + 1]
    if kinds[alpha_index] == _PREMULTIPLIED:
        max_level = np.iinfo(colours.dtype).max
        straight = colours.astype(np.uint32) * max_level // np.maximum(alpha, 1)
        colours = np.minimum(straight, max_level).astype(colours.dtype)
    return np.concatenate([colours, alpha], axis=2)
