"""Writes photographs in a given format with their metadata, atomically."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from opera_env.data.photo import FORMATS, Photo, Pixels
from opera_env.data.write_parts import current_exif, interleave_alpha
from opera_env.data.write_png import encode_png
from opera_env.data.write_tiff import encode_tiff
from opera_env.errors import ImageFileError, error_message
from opera_env.files import atomic_create, atomic_write

_JPEG_SEGMENT_MAX_BYTES = 65533
"""Maximum number of bytes of EXIF or XMP data in one segment of a JPEG file."""

_PROFILE_MAX_BYTES = {"JPEG": 255 * 65519, "PNG": 2**24}
"""Maximum number of bytes of a profile: JPEG has 255 segments for it, and readers of PNG have a limit."""

_SRGB_GAMMA = 45455
_SRGB_PRIMARIES = struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
"""The gamma, times 100,000, and the chromaticities by which PNG describes sRGB."""

_XMP_HEADER_BYTES = len(b"http://ns.adobe.com/xap/1.0/\0")


def write_photo(path: Path | str, photo: Photo, quality: int = 95, overwrite: bool = False) -> Photo:
    """Writes a photograph; the file is complete or absent.

    Args:
        path: The file; its folder is created.
        photo: The photograph, which is written in the format ``photo.format``.
        quality: Quality of lossy formats, 1 to 100.
        overwrite: Whether an existing file may be replaced.

    Returns:
        The photograph as it was written; its notices name what the format cannot store.

    Raises:
        FileExistsError: If the file exists and may not be replaced.
        ImageFileError: If the photograph is too large for the format or cannot be written.
    """
    path = Path(path)
    photo = drop_unsupported(photo)
    check_max_side(path, photo.format, photo.size)
    target: AbstractContextManager[Path] = atomic_write(path) if overwrite else atomic_create(path)
    try:
        data = _encode(photo, quality)
        with target as part:
            part.write_bytes(data)
    except FileExistsError:
        raise
    except MemoryError as error:
        raise ImageFileError(path, "does not fit into memory") from error
    except Exception as error:  # encoders raise errors of all kinds
        raise ImageFileError(path, f"cannot be written: {error_message(error)}") from error
    return photo


def check_max_side(path: Path, format: str, size: tuple[int, int]) -> None:
    """Checks that a format can store a photograph of this height and width.

    Raises:
        ImageFileError: If the photograph is too large.
    """
    longest = FORMATS[format].max_side
    if longest is not None and max(size) > longest:
        raise ImageFileError(
            path,
            f"{format} files are at most {longest} pixels a side, this would have "
            f"{size[1]} x {size[0]}: choose another format with --format",
        )


def drop_unsupported(photo: Photo) -> Photo:
    """Returns the photograph without what its format cannot store, which is added to the notices."""
    format_spec, notices = FORMATS[photo.format], list(photo.notices)
    if photo.bits > 8 and not format_spec.supports_16bit:
        notices.append(f"{photo.format} holds 8 of its {photo.bits} bits")
        alpha = None if photo.alpha is None else _to_8bit(photo.alpha)
        photo = replace(photo, pixels=_to_8bit(photo.pixels), alpha=alpha)
    if photo.alpha is not None and not format_spec.alpha:
        notices.append(f"{photo.format} holds no transparency")
        photo = replace(photo, alpha=None)
    if not format_spec.metadata and (photo.icc or photo.exif or photo.xmp):
        notices.append(f"{photo.format} holds no colour profile and no EXIF")
        photo = replace(photo, icc=None, exif=None, xmp=None)
    if photo.format == "WEBP" and photo.icc is not None and photo.icc[16:20] == b"GRAY":
        notices.append("WEBP holds no grey, so its profile of grey levels is left out")
        photo = replace(photo, icc=None)
    if photo.icc is not None and len(photo.icc) > _PROFILE_MAX_BYTES.get(photo.format, len(photo.icc)):
        notices.append(f"its colour profile is too long for {photo.format}")
        photo = replace(photo, icc=None)
    if photo.format == "JPEG":
        photo = _drop_oversized_metadata(photo, notices)
    if photo.format != "PNG" and photo.colour_chunks:
        if photo.icc is None and not _is_like_srgb(dict(photo.colour_chunks)):
            notices.append(f"{photo.format} holds no gamma or primaries: its colours may look different")
        photo = replace(photo, colour_chunks=())
    return replace(photo, notices=tuple(notices))


def _is_like_srgb(chunks: Mapping[bytes, bytes]) -> bool:
    """Returns whether viewers show levels with these chunks about as they show sRGB."""
    gamma = int.from_bytes(chunks.get(b"gAMA", _SRGB_GAMMA.to_bytes(4)), "big")
    primaries = chunks.get(b"cHRM", _SRGB_PRIMARIES)
    return b"cICP" not in chunks and (
        b"sRGB" in chunks or (abs(gamma - _SRGB_GAMMA) < 1000 and primaries == _SRGB_PRIMARIES)
    )


def _to_8bit(levels: Pixels) -> Pixels:
    """Rounds levels of 16 bits to 8 bits."""
    return (levels // 257 + (levels % 257 > 128)).astype(np.uint8)


def _drop_oversized_metadata(photo: Photo, notices: list[str]) -> Photo:
    """Leaves out EXIF and XMP data that are too long for one segment of a JPEG file."""
    exif = current_exif(photo)
    if exif is not None and len(exif.tobytes()) > _JPEG_SEGMENT_MAX_BYTES:
        notices.append("its EXIF data is too long for JPEG")
        photo = replace(photo, exif=None)
    if photo.xmp is not None and len(photo.xmp) > _JPEG_SEGMENT_MAX_BYTES - _XMP_HEADER_BYTES:
        notices.append("its XMP data is too long for JPEG")
        photo = replace(photo, xmp=None)
    return photo


def _encode(photo: Photo, quality: int) -> bytes:
    if photo.format == "PNG":
        return encode_png(photo)
    if photo.format == "TIFF":
        return encode_tiff(photo)
    exif, options = current_exif(photo), dict[str, Any]()
    if photo.dpi is not None:
        options["dpi"] = photo.dpi
    if FORMATS[photo.format].metadata:
        metadata = {
            "icc_profile": photo.icc,
            "exif": None if exif is None else exif.tobytes(),
            "xmp": photo.xmp,
        }
        options |= {name: data for name, data in metadata.items() if data is not None}
    if photo.format == "JPEG":  # no optimize=True, with which Pillow fails on strong noise
        options |= {"quality": quality, "subsampling": 0}
    elif photo.format == "WEBP":
        options |= {"quality": quality, "lossless": photo.lossless, "exact": True}
    file = BytesIO()
    Image.fromarray(interleave_alpha(photo)).save(file, photo.format, **options)
    return file.getvalue()
