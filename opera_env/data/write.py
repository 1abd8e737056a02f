"""Writes photographs back: in their format, with what their files said, never over another file."""

from __future__ import annotations

import struct
import zlib
from contextlib import AbstractContextManager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from PIL import ExifTags, Image, TiffImagePlugin

from opera_env.data.exif import DESCRIPTIVE_TAGS, IFD_POINTER_TAGS, ORIENTATION_TAG, copy_exif
from opera_env.data.photo import FORMATS, Photo, Pixels
from opera_env.data.read import error_message
from opera_env.errors import ImageFileError
from opera_env.files import atomic_create, atomic_write

_JPEG_SEGMENT_MAX_BYTES = 65533
"""Most bytes of EXIF or XMP that a JPEG file holds in one piece."""

_XMP_HEADER_BYTES = len(b"http://ns.adobe.com/xap/1.0/\0")

_PNG_HEADER_BYTES = 8 + 25
"""Bytes before the first chunk that may be left out."""

_PNG_COMPRESSION_LEVEL = 6

_METRES_PER_INCH = 0.0254
"""In metres."""


def write_photo(path: Path | str, photo: Photo, quality: int = 95, overwrite: bool = False) -> Photo:
    """Writes a photograph; the file is there whole or not at all.

    Args:
        path: Where to; folders are made.
        photo: What to write; ``photo.format`` says how.
        quality: Of lossy formats, 1 to 100.
        overwrite: Whether a file of that name may be replaced.

    Returns:
        The photograph as it was written: what the format cannot hold is gone, and named in
        its notices.

    Raises:
        FileExistsError: If there is a file of that name, and it may not be replaced.
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
    except Exception as error:  # encoders raise whatever they like
        raise ImageFileError(path, f"cannot be written: {error_message(error)}") from error
    return photo


def check_max_side(path: Path, format: str, size: tuple[int, int]) -> None:
    """Tells whether a photograph of this height and width fits into a format.

    Raises:
        ImageFileError: If it is too large.
    """
    longest = FORMATS[format].max_side
    if longest is not None and max(size) > longest:
        raise ImageFileError(
            path,
            f"{format} files are at most {longest} pixels a side, this would have "
            f"{size[1]} x {size[0]}: choose another format with --format",
        )


def drop_unsupported(photo: Photo) -> Photo:
    """Leaves out what the photograph's format cannot hold, and says so in its notices."""
    known, notices = FORMATS[photo.format], list(photo.notices)
    if photo.bits > 8 and not known.deep:
        notices.append(f"{photo.format} holds 8 of its {photo.bits} bits")
        alpha = None if photo.alpha is None else _to_8bit(photo.alpha)
        photo = replace(photo, pixels=_to_8bit(photo.pixels), alpha=alpha)
    if photo.alpha is not None and not known.alpha:
        notices.append(f"{photo.format} holds no transparency")
        photo = replace(photo, alpha=None)
    if not known.metadata and (photo.icc or photo.exif or photo.xmp):
        notices.append(f"{photo.format} holds no colour profile and no EXIF")
        photo = replace(photo, icc=None, exif=None, xmp=None)
    if photo.format == "WEBP" and photo.icc is not None and photo.icc[16:20] == b"GRAY":
        notices.append("WEBP holds no grey, so its profile of grey levels is left out")
        photo = replace(photo, icc=None)
    if photo.format == "JPEG":
        photo = _drop_oversized_metadata(photo, notices)
    return replace(photo, notices=tuple(notices))


def _to_8bit(levels: Pixels) -> Pixels:
    """Rounds 16 bits to 8."""
    return (levels // 257 + (levels % 257 > 128)).astype(np.uint8)


def _drop_oversized_metadata(photo: Photo, notices: list[str]) -> Photo:
    """Leaves out what is too long for one piece of a JPEG file."""
    exif = _exif(photo)
    if exif is not None and len(exif.tobytes()) > _JPEG_SEGMENT_MAX_BYTES:
        notices.append("its EXIF data is too long for JPEG")
        photo = replace(photo, exif=None)
    if photo.xmp is not None and len(photo.xmp) > _JPEG_SEGMENT_MAX_BYTES - _XMP_HEADER_BYTES:
        notices.append("its XMP data is too long for JPEG")
        photo = replace(photo, xmp=None)
    return photo


def _encode(photo: Photo, quality: int) -> bytes:
    if photo.format == "PNG":
        return _encode_png(photo)
    if photo.format == "TIFF":
        return _encode_tiff(photo)
    exif, options = _exif(photo), dict[str, Any]()
    if photo.dpi is not None:
        options["dpi"] = photo.dpi
    if FORMATS[photo.format].metadata:
        said = {
            "icc_profile": photo.icc,
            "exif": None if exif is None else exif.tobytes(),
            "xmp": photo.xmp,
        }
        options |= {name: data for name, data in said.items() if data is not None}
    if photo.format == "JPEG":  # not optimised: Pillow fails to where noise is large
        options |= {"quality": quality, "subsampling": 0}
    elif photo.format == "WEBP":
        options |= {"quality": quality, "lossless": photo.lossless, "exact": True}
    file = BytesIO()
    Image.fromarray(_channels(photo)).save(file, photo.format, **options)
    return file.getvalue()


def _channels(photo: Photo) -> Pixels:
    """Grey (H, W), or (H, W, C) with alpha last."""
    if photo.alpha is not None:
        return np.concatenate([photo.pixels, photo.alpha[..., None]], axis=2)
    return photo.pixels[..., 0] if photo.pixels.shape[2] == 1 else photo.pixels


def _exif(photo: Photo) -> Image.Exif | None:
    """A copy of the EXIF data with the size that the photograph has now."""
    if photo.exif is None:
        return None
    exif = copy_exif(photo.exif)
    exif.pop(ORIENTATION_TAG, None)
    if ExifTags.IFD.Exif in exif:
        details = exif.get_ifd(ExifTags.IFD.Exif)
        height, width = photo.size
        for tag, value in ((ExifTags.Base.ExifImageWidth, width), (ExifTags.Base.ExifImageHeight, height)):
            if tag in details:
                details[tag] = value
    return exif


def _encode_png(photo: Photo) -> bytes:
    """Pillow writes no 16-bit colours and OpenCV no grey with alpha, so the chunks are added here."""
    exif = _exif(photo)
    chunks: list[bytes] = []
    if photo.icc is not None:
        chunks.append(_chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(photo.icc)))
    if photo.dpi is not None:
        across, down = (round(dots / _METRES_PER_INCH) for dots in photo.dpi)
        chunks.append(_chunk(b"pHYs", struct.pack(">IIB", across, down, 1)))
    if exif is not None:
        chunks.append(_chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")))
    if photo.xmp is not None:
        chunks.append(_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + photo.xmp))
    pixels = np.ascontiguousarray(_channels(photo))
    # A byte a row comes on top, which imagecodecs does not expect of images of one column.
    rows = pixels.nbytes + len(pixels)
    data = imagecodecs.png_encode(pixels, level=_PNG_COMPRESSION_LEVEL, out=rows + rows // 512 + 4096)
    return b"".join([data[:_PNG_HEADER_BYTES], *chunks, data[_PNG_HEADER_BYTES:]])


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _encode_tiff(photo: Photo) -> bytes:
    pixels, options = _channels(photo), {}
    if photo.alpha is not None:
        options["extrasamples"] = ["unassalpha"]
    tags, directories = _tiff_tags(_exif(photo))
    if photo.xmp is not None:
        tags.append((ExifTags.Base.XMLPacket, "B", len(photo.xmp), photo.xmp, True))
    file = BytesIO()
    tifffile.imwrite(
        file,
        pixels,
        byteorder="<",
        photometric="rgb" if photo.pixels.shape[2] == 3 else "minisblack",
        planarconfig="contig" if pixels.ndim == 3 else None,
        compression="zlib",
        predictor=True,
        iccprofile=photo.icc,
        resolution=photo.dpi,
        resolutionunit="inch" if photo.dpi is not None else None,
        software=False,
        metadata=None,
        extratags=tags,
        **options,
    )
    for tag, directory in directories.items():
        _append_directory(file, tag, directory)
    return file.getvalue()


_Tag = tuple[int, str, int, bytes | int, bool]
"""A tag as tifffile takes it: number, type, count, value, whether only the first page has it."""


def _tiff_tags(exif: Image.Exif | None) -> tuple[list[_Tag], dict[int, dict[int, Any]]]:
    """Parts EXIF into texts, which a TIFF file holds itself, and directories, which it points to."""
    tags: list[_Tag] = []
    directories: dict[int, dict[int, Any]] = {}
    if exif is None:
        return tags, directories
    for tag in sorted(set(exif) & DESCRIPTIVE_TAGS):
        value = exif[tag]
        if tag in IFD_POINTER_TAGS:
            directories[tag] = exif.get_ifd(tag)
            tags.append((_placeholder_tag(tag), "I", 1, 0, True))  # where it is, told when it is there
        elif isinstance(value, str):
            tags.append((tag, "s", 0, value.encode("latin-1"), True))
        elif isinstance(value, bytes):
            tags.append((tag, "B", len(value), value, True))
    return tags, directories


def _append_directory(file: BytesIO, tag: int, directory: dict[int, Any]) -> None:
    """Writes a directory of tags behind the rest and points to it."""
    entries = TiffImagePlugin.ImageFileDirectory_v2(prefix=b"II", group=tag)
    for key, value in directory.items():
        if key != ExifTags.IFD.Interop:
            entries[key] = value
    offset = file.seek(0, 2)
    offset = file.write(b"\0" * (offset % 2)) + offset
    file.write(entries.tobytes(offset))
    file.seek(0)
    with tifffile.TiffFile(file, mode="r+") as written:
        page: Any = written.pages[0]
        pointer = page.tags[_placeholder_tag(tag)]
        pointer.overwrite(offset)
        file.seek(pointer.offset)
        file.write(struct.pack("<H", tag))


def _placeholder_tag(tag: int) -> int:
    """The tag to write instead of a pointer, which tifffile refuses to: one that nothing comes between."""
    return tag - 1
