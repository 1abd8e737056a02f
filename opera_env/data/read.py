"""Reads photographs of every kind that people have, or says in one line why not."""

from __future__ import annotations

import logging
import math
import os
import re
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError

from opera_env.data.exif import filter_exif, read_exif
from opera_env.data.photo import FORMATS, Photo, Pixels, format_from_name
from opera_env.errors import ImageFileError

for _library in ("PIL", "tifffile", "imagecodecs"):
    # What they log of damaged files is for who listens; by default it would be printed beside our errors.
    logging.getLogger(_library).addHandler(logging.NullHandler())

Level = TypeVar("Level", bound=np.generic)

_PILLOW_FORMATS = tuple(FORMATS)
"""What Pillow may take a file for. An MPO file, a JPEG with further pictures behind it, counts as JPEG."""

_TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_UINT16_MAX = np.uint16(65535)

_MAX_DPI = 65535
"""More than this is nonsense, and no JPEG file can say it."""


@contextmanager
def open_image(path: Path | str, formats: tuple[str, ...] | None = None) -> Iterator[Image.Image]:
    """Opens an image file; whatever goes wrong until it is closed becomes an error with its path.

    Args:
        path: The file.
        formats: What it may be, under Pillow's names; any that Pillow reads by default.

    Raises:
        ImageFileError: If the file is absent, damaged, too large or no image.
    """
    with _image_file_errors(path, formats), Image.open(path, formats=formats) as picture:
        yield picture


@contextmanager
def _image_file_errors(path: Path | str, formats: tuple[str, ...] | None) -> Iterator[None]:
    """Turns whatever goes wrong with a file into an error with its path."""
    try:
        _check_file(Path(path))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on strange metadata, and on sizes that are large but allowed
            yield
    except ImageFileError:
        raise
    except FileNotFoundError as error:
        raise ImageFileError(path, "no such file") from error
    except UnidentifiedImageError as error:
        known = "an image file that can be read" if formats is None else ", ".join(FORMATS)
        raise ImageFileError(path, f"damaged, or not {known}") from error
    except Image.DecompressionBombError as error:
        raise ImageFileError(path, f"refused, too many pixels: {error}") from error
    except MemoryError as error:
        raise ImageFileError(path, "does not fit into memory") from error
    except Exception as error:  # decoders of damaged files raise whatever they like
        raise ImageFileError(path, f"cannot be read: {error_message(error)}") from error


def error_message(error: Exception) -> str:
    """What an error says, in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def _check_file(path: Path) -> None:
    found = path.stat()
    if stat.S_ISDIR(found.st_mode):
        raise ImageFileError(path, "expected an image file, found a folder")
    if not stat.S_ISREG(found.st_mode):  # a pipe or device might never end
        raise ImageFileError(path, "not a regular file")
    if found.st_size == 0:
        raise ImageFileError(path, "the file is empty")


def apply_orientation(pixels: NDArray[Level], orientation: int) -> NDArray[Level]:
    """Turns (H, W, ...) as a viewer would, by its EXIF orientation from 1 to 8."""
    if orientation in (5, 6, 7, 8):
        pixels = np.swapaxes(pixels, 0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def read_photo(path: Path | str) -> Photo:
    """Reads a PNG, JPEG, BMP, TIFF or WebP file with all it says.

    Grey stays grey and 16 bits stay 16 bits; palettes become RGB. CMYK and CIELAB are
    converted to sRGB through the file's profile. Of several frames the first is taken.

    Raises:
        ImageFileError: If the file is absent, empty, damaged, cut short or too large, if its
            content is not what its name says, or if it holds floating point numbers.
    """
    path = Path(path)
    with _image_file_errors(path, _PILLOW_FORMATS):
        if _is_16bit_tiff(path):
            return _read_16bit_tiff(path)
        with Image.open(path, formats=_PILLOW_FORMATS) as picture:
            return _read(picture, path)


def read_size(path: Path | str) -> tuple[int, int]:
    """Reads height and width, as stored, from the head of a file that :func:`read_photo` takes.

    Raises:
        ImageFileError: If there is no head to read.
    """
    path = Path(path)
    with _image_file_errors(path, _PILLOW_FORMATS):
        if _is_16bit_tiff(path):
            with tifffile.TiffFile(path) as file:
                page = _first(file)
                return int(page.imagelength), int(page.imagewidth)
        with Image.open(path, formats=_PILLOW_FORMATS) as picture:
            return picture.height, picture.width


def _read(picture: Image.Image, path: Path) -> Photo:
    kind = "JPEG" if picture.format == "MPO" else str(picture.format)
    _check_name(path, kind)
    notices = _count(getattr(picture, "n_frames", 1))
    exif, orientation = load_with_exif(picture, kind, notices)
    info = dict(picture.info)
    if kind == "PNG" and _is_16bit_png(path):
        pixels = _decode_16bit_png(path)
    else:
        pixels, info["icc_profile"] = _decode(picture, notices)
    colours, alpha = _split(apply_orientation(pixels, orientation))
    return Photo(
        pixels=colours,
        alpha=alpha,
        format=kind,
        icc=info.get("icc_profile"),
        exif=exif,
        xmp=_xmp(info.get("xmp")),
        dpi=_dpi(info.get("dpi")),
        lossless=kind == "WEBP" and _is_lossless_webp(path),
        notices=tuple(notices),
    )


def load_with_exif(picture: Image.Image, kind: str, notices: list[str]) -> tuple[Image.Exif | None, int]:
    """Decodes a picture, which shows whether the file is whole, and reads its EXIF data.

    Returns:
        The data and the orientation, which has not been applied.
    """
    if kind != "TIFF":  # reading EXIF may load the picture: what is wrong with the one is not the other's
        picture.load()
    # Before a TIFF is loaded: Pillow would turn it by an orientation that is still there.
    described = filter_exif(lambda: read_exif(picture), kind, notices)
    picture.load()
    return described


def _count(pictures: int) -> list[str]:
    return [f"only the first of its {pictures} pictures is taken"] if pictures > 1 else []


def _check_name(path: Path, kind: str) -> None:
    """Refuses a file whose name promises another format: written back, it would be one more lie."""
    if format_from_name(path) != kind:
        promised = format_from_name(path) or "no format known here"
        right = path.with_suffix(FORMATS[kind].suffixes[0]).name
        raise ImageFileError(path, f"its name says {promised}, its content is {kind}: rename it to {right}")


def _is_16bit_png(path: Path) -> bool:
    """Whether a channel has more than 8 bits; Pillow would silently keep the upper 8 of colours."""
    with path.open("rb") as file:
        return file.read(25)[24] == 16


def _decode_16bit_png(path: Path) -> Pixels:
    pixels = imagecodecs.png_decode(path.read_bytes())
    return np.atleast_3d(pixels)


def _is_16bit_tiff(path: Path) -> bool:
    """Whether Pillow would keep the upper 8 bits of a channel, or not know the file at all."""
    with path.open("rb") as file:
        if file.read(4) not in _TIFF_SIGNATURES:
            return False
    try:
        with tifffile.TiffFile(path) as file:
            return np.max(_first(file).bitspersample) > 8
    except Exception:  # noqa: BLE001 - Pillow says what is wrong with it
        return False


def _first(file: tifffile.TiffFile) -> Any:
    return file.pages[0]


def _read_16bit_tiff(path: Path) -> Photo:
    _check_name(path, "TIFF")
    with path.open("rb") as stored, tifffile.TiffFile(stored) as file:
        page = _first(file)
        notices = _count(len(file.pages))
        pixels = _decode_16bit_tiff(page, notices)

        def exif_data() -> Image.Exif:
            exif = Image.Exif()
            exif.bigtiff, exif.endian = file.is_bigtiff, file.byteorder
            exif.load_from_fp(stored, page.offset)
            return exif

        exif, orientation = filter_exif(exif_data, "TIFF", notices)
        colours, alpha = _split(apply_orientation(pixels, orientation))
        return Photo(
            pixels=colours,
            alpha=alpha,
            format="TIFF",
            icc=page.iccprofile,
            exif=exif,
            xmp=_xmp(page.tags.valueof(ExifTags.Base.XMLPacket)),
            dpi=_dpi(page.get_resolution("inch")) if page.resolutionunit > 1 else None,
            notices=tuple(notices),
        )


def _decode_16bit_tiff(page: Any, notices: list[str]) -> Pixels:
    """Decodes grey or RGB of 9 to 16 bits to uint16 (H, W, C), C from 1 to 4, alpha last."""
    count = page.imagewidth * page.imagelength
    if Image.MAX_IMAGE_PIXELS is not None and count > 2 * Image.MAX_IMAGE_PIXELS:  # as Pillow has it
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
        raise ValueError("parts of it are absent")  # and would be black
    pixels = page.asarray()
    if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE and pixels.ndim == 3:
        pixels = np.moveaxis(pixels, 0, -1)
    pixels = np.atleast_3d(pixels)
    if page.bitspersample < 16:
        top = 2**page.bitspersample - 1
        pixels = ((pixels.astype(np.uint32) * _UINT16_MAX + top // 2) // top).astype(np.uint16)
    colours, extra = np.split(pixels, [3 if photometric == "RGB" else 1], axis=2)
    if photometric == "MINISWHITE":
        colours = _UINT16_MAX - colours
    return _with_alpha(colours, extra, tuple(page.extrasamples), notices)


def _with_alpha(colours: Pixels, extra: Pixels, kinds: tuple[int, ...], notices: list[str]) -> Pixels:
    """Takes the channel that is said to be alpha, of those behind the colours."""
    found = next((number for number, kind in enumerate(kinds) if kind in (1, 2)), None)
    if extra.shape[2] > (found is not None):
        notices.append("channels beside its colours are left out")
    if found is None:
        return colours
    alpha = extra[..., found : found + 1]
    if kinds[found] == 1:  # the colours are stored multiplied by it
        whole = colours.astype(np.uint32) * _UINT16_MAX // np.maximum(alpha, 1)
        colours = np.minimum(whole, _UINT16_MAX).astype(np.uint16)
    return np.concatenate([colours, alpha], axis=2)


def _decode(picture: Image.Image, notices: list[str]) -> tuple[Pixels, bytes | None]:
    """Converts a loaded picture to uint8 (H, W, C), C from 1 to 4, alpha last; and its profile."""
    profile = picture.info.get("icc_profile")
    mode = picture.mode
    if mode in ("CMYK", "LAB"):
        notices.append(f"{mode} colours became sRGB")
        return np.asarray(_to_srgb(picture, profile, notices)), _SRGB.tobytes()
    if mode in ("P", "PA"):
        notices.append("the palette became full colour")
    has_alpha = mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info
    grey = mode in ("1", "L", "LA", "La")
    target = ("LA" if has_alpha else "L") if grey else ("RGBA" if has_alpha else "RGB")
    if mode == "La":  # premultiplied; Pillow converts these step by step only
        picture = picture.convert("LA")
    if mode == "L" and has_alpha:  # one level counts as transparent
        picture = picture.convert("RGBA")
    return np.atleast_3d(np.asarray(picture.convert(target))), profile


_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def _to_srgb(picture: Image.Image, profile: bytes | None, notices: list[str]) -> Image.Image:
    try:
        if profile is not None:
            source = ImageCms.ImageCmsProfile(BytesIO(profile))
        elif picture.mode == "LAB":
            source = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
        else:
            return picture.convert("RGB")
        converted = ImageCms.profileToProfile(picture, source, _SRGB, outputMode="RGB")
        assert converted is not None  # None is for conversion in place
        return converted
    except (ImageCms.PyCMSError, OSError) as error:
        if picture.mode == "LAB":
            raise
        notices.append(f"its colour profile cannot be used ({error})")
        return picture.convert("RGB")


def _split(pixels: Pixels) -> tuple[Pixels, Pixels | None]:
    """Parts colours from alpha."""
    channels = pixels.shape[2]
    if channels in (2, 4):
        return np.ascontiguousarray(pixels[..., :-1]), np.ascontiguousarray(pixels[..., -1])
    return pixels, None


def _xmp(xmp: Any) -> bytes | None:
    if isinstance(xmp, str):
        xmp = xmp.encode()
    if not isinstance(xmp, bytes) or not xmp:
        return None
    return re.sub(rb'(tiff:Orientation(?:="|>))\d', rb"\g<1>1", xmp)


def _dpi(dpi: Any) -> tuple[float, float] | None:
    try:
        across, down = (float(value) for value in dpi)
    except (TypeError, ValueError, ArithmeticError):
        return None
    return (across, down) if 0 < across < _MAX_DPI and 0 < down < _MAX_DPI else None


def _is_lossless_webp(path: Path) -> bool:
    """Whether the first picture in the file is coded without loss."""
    with path.open("rb") as file:
        file.seek(12)
        while len(head := file.read(8)) == 8:
            kind, size = head[:4], int.from_bytes(head[4:], "little")
            if kind in (b"VP8 ", b"VP8L"):
                return kind == b"VP8L"
            # a frame of an animation holds chunks itself, behind 16 bytes of its own
            file.seek(16 if kind == b"ANMF" else size + size % 2, os.SEEK_CUR)
    return False
