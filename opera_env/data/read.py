"""Reads photographs with their metadata, and turns every failure into an error with the path."""

from __future__ import annotations

import logging
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, PngImagePlugin, UnidentifiedImageError

from opera_env.data.claims import check_opened_claim
from opera_env.data.exif import filter_exif, read_exif
from opera_env.data.metadata import clean_dpi, clean_xmp, multi_frame_notices
from opera_env.data.photo import FORMATS, Photo, suffix_notices
from opera_env.data.pixels import apply_orientation, split_alpha
from opera_env.data.read_8bit import decode_8bit, is_lossless_webp
from opera_env.data.read_jpeg import check_jpeg
from opera_env.data.read_png import check_png, decode_16bit_png, read_colour_chunks, read_png_header
from opera_env.data.read_tiff import is_tiff, read_tiff, read_tiff_size
from opera_env.data.recognise import describe_content
from opera_env.errors import ImageFileError, error_message

for _library in ("PIL", "tifffile", "imagecodecs"):
    # Without a handler Python prints what these libraries log of damaged files, beside our errors.
    logging.getLogger(_library).addHandler(logging.NullHandler())

PngImagePlugin.MAX_TEXT_CHUNK = 2**24  # also limits colour profiles, of which some have over a megabyte

_PILLOW_FORMATS = tuple(name for name in FORMATS if name != "TIFF")
"""Formats that Pillow may recognise. An MPO file, a JPEG with further images after it, counts as JPEG."""


@contextmanager
def open_image(path: Path | str, formats: tuple[str, ...] | None = None) -> Iterator[Image.Image]:
    """Opens an image file; every error until it is closed becomes an ImageFileError with its path.

    Args:
        path: The file.
        formats: Formats that are accepted, under Pillow's names; by default any that Pillow reads.

    Raises:
        ImageFileError: If the file is absent, damaged, too large or not an image.
    """
    path = Path(path)
    with _image_file_errors(path, formats), Image.open(path, formats=formats) as image:
        check_opened_claim(path, image)
        yield image


def check_complete(path: Path, image: Image.Image) -> list[str]:
    """Checks that all pixels of a PNG or JPEG file are there; for other formats the decoders do it.

    Returns:
        Notices of what may be absent.

    Raises:
        ImageFileError: If the file is cut short, even if it ends as a whole file does.
    """
    if image.format == "PNG":
        check_png(path)
    elif image.format in ("JPEG", "MPO"):
        return check_jpeg(path, image.width * image.height)
    return []


@contextmanager
def _image_file_errors(path: Path | str, formats: tuple[str, ...] | None) -> Iterator[None]:
    """Turns every error while a file is read into an ImageFileError with its path."""
    try:
        _check_file(Path(path))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of unusual metadata, and of sizes that are large but accepted
            yield
    except ImageFileError:
        raise
    except FileNotFoundError as error:
        raise ImageFileError(path, "no such file") from error
    except UnidentifiedImageError as error:
        known = "an image file that can be read" if formats is None else ", ".join(FORMATS)
        reason = describe_content(Path(path)) or f"damaged, or not {known}"
        raise ImageFileError(path, reason) from error
    except Image.DecompressionBombError as error:
        raise ImageFileError(path, f"refused, too many pixels: {error}") from error
    except MemoryError as error:
        raise ImageFileError(path, "does not fit into memory") from error
    except (TypeError, AttributeError, IndexError) as error:  # their messages are about Python
        reason = f"damaged: its structure makes no sense ({type(error).__name__})"
        raise ImageFileError(path, reason) from error
    except Exception as error:  # decoders raise errors of all kinds on damaged files
        raise ImageFileError(path, f"cannot be read: {error_message(error)}") from error


def _check_file(path: Path) -> None:
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise ImageFileError(path, "expected an image file, found a folder")
    if not stat.S_ISREG(status.st_mode):  # reading a pipe or a device might never end
        raise ImageFileError(path, "not a regular file")
    if status.st_size == 0:
        raise ImageFileError(path, "the file is empty")


def check_image(path: Path) -> None:
    """Checks that a file is an image that holds the pixels that it claims, for decoders that do not.

    Raises:
        ImageFileError: If it is not.
    """
    with open_image(path) as image:
        check_complete(path, image)


def has_tiff_signature(path: Path) -> bool:
    """Returns whether a file is TIFF, which is read by :func:`read_photo` only.

    Raises:
        ImageFileError: If the file is absent or cannot be opened.
    """
    with _image_file_errors(path, None):
        return is_tiff(path)


def read_photo(path: Path | str) -> Photo:
    """Reads a PNG, JPEG, BMP, TIFF or WebP file with its metadata.

    The content decides the format; a name that says another one is mentioned in the notices. Grey stays
    grey and 16 bits stay 16 bits; palettes become RGB. CMYK and CIELAB are converted to sRGB through the
    profile of the file. Of several images the first is read.

    Args:
        path: The file.

    Raises:
        ImageFileError: If the file is absent, empty, damaged, cut short, too large or of another format,
            or if it holds floating-point numbers.
    """
    path = Path(path)
    with _image_file_errors(path, _PILLOW_FORMATS):
        if is_tiff(path):
            return read_tiff(path)
        with open_image(path, _PILLOW_FORMATS) as image:
            return _read(image, path)


def read_size(path: Path | str) -> tuple[int, int]:
    """Reads height and width, as stored, from the header of a file that :func:`read_photo` accepts.

    Raises:
        ImageFileError: If the header cannot be read.
    """
    path = Path(path)
    with _image_file_errors(path, _PILLOW_FORMATS):
        if is_tiff(path):
            return read_tiff_size(path)
        with open_image(path, _PILLOW_FORMATS) as image:
            return image.height, image.width


def read_format(path: Path | str) -> str:
    """Reads the format, a key of ``FORMATS``, from the header of a file that :func:`read_photo` accepts.

    Raises:
        ImageFileError: If the header cannot be read.
    """
    path = Path(path)
    with _image_file_errors(path, _PILLOW_FORMATS):
        if is_tiff(path):
            read_tiff_size(path)
            return "TIFF"
        with open_image(path, _PILLOW_FORMATS) as image:
            return _format_name(image)


def _format_name(image: Image.Image) -> str:
    return "JPEG" if image.format == "MPO" else str(image.format)


def _read(image: Image.Image, path: Path) -> Photo:
    format_name = _format_name(image)
    notices = [
        *suffix_notices(path, format_name),
        *check_complete(path, image),
        *multi_frame_notices(getattr(image, "n_frames", 1)),
    ]
    exif, orientation = load_with_exif(image, format_name, notices)
    info = dict(image.info)
    if "icc_profile" in info and not info["icc_profile"]:
        notices.append("its colour profile is damaged and left out")
    depth = read_png_header(path).depth if format_name == "PNG" else 8
    if depth == 16:
        pixels = decode_16bit_png(path)
    else:
        _scale_transparent_level(image, depth)
        pixels, info["icc_profile"] = decode_8bit(image, notices)
    colours, alpha = split_alpha(apply_orientation(pixels, orientation))
    return Photo(
        pixels=colours,
        alpha=alpha,
        format=format_name,
        icc=info.get("icc_profile"),
        exif=exif,
        xmp=clean_xmp(info.get("xmp")),
        dpi=clean_dpi(info.get("dpi")),
        colour_chunks=read_colour_chunks(path) if format_name == "PNG" else (),
        lossless=format_name == "WEBP" and is_lossless_webp(path),
        notices=tuple(notices),
    )


def _scale_transparent_level(image: Image.Image, depth: int) -> None:
    """Scales the transparent level of grey of 2 or 4 bits to 8 bits, as Pillow does with pixels."""
    level = image.info.get("transparency")
    if image.mode == "L" and isinstance(level, int) and depth in (2, 4):
        image.info["transparency"] = level * 255 // (2**depth - 1)


def load_with_exif(
    image: Image.Image, format_name: str, notices: list[str]
) -> tuple[Image.Exif | None, int]:
    """Decodes an image and reads its EXIF data; an incomplete file raises an error.

    Args:
        image: An opened image.
        format_name: Its format, under Pillow's name.
        notices: Notices of damaged EXIF data are appended.

    Returns:
        The EXIF data and the orientation, which has not been applied.
    """
    image.load()  # before, because a damaged image would be reported as damaged EXIF data
    return filter_exif(lambda: read_exif(image), format_name, notices)
