"""Writes TIFF files of 8 and 16 bits per channel with metadata."""

from __future__ import annotations

import struct
from io import BytesIO
from typing import Any

import tifffile
from PIL import ExifTags, Image, TiffImagePlugin

from opera_env.data.exif import DESCRIPTIVE_TAGS, IFD_POINTER_TAGS
from opera_env.data.photo import Photo
from opera_env.data.write_parts import current_exif, interleave_alpha


def encode_tiff(photo: Photo) -> bytes:
    """Returns a TIFF file with deflate compression."""
    pixels, options = interleave_alpha(photo), {}
    if photo.alpha is not None:
        options["extrasamples"] = ["unassalpha"]
    tags, directories = _tiff_tags(current_exif(photo))
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
"""A tag as tifffile expects it: number, type, count, value, and whether only the first page has it."""


def _tiff_tags(exif: Image.Exif | None) -> tuple[list[_Tag], dict[int, dict[int, Any]]]:
    """Splits EXIF data into tags that the file stores itself and directories to which it points."""
    tags: list[_Tag] = []
    directories: dict[int, dict[int, Any]] = {}
    if exif is None:
        return tags, directories
    for tag in sorted(set(exif) & DESCRIPTIVE_TAGS):
        value = exif[tag]
        if tag in IFD_POINTER_TAGS:
            directories[tag] = exif.get_ifd(tag)
            tags.append((_placeholder_tag(tag), "I", 1, 0, True))  # the offset follows with the directory
        elif isinstance(value, str):
            tags.append((tag, "s", 0, value.encode("latin-1"), True))
        elif isinstance(value, bytes):
            tags.append((tag, "B", len(value), value, True))
    return tags, directories


def _append_directory(file: BytesIO, tag: int, directory: dict[int, Any]) -> None:
    """Appends a directory of tags to the file and points to it."""
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
    """Returns the number before a pointer tag: tifffile refuses to write the pointer tag itself."""
    return tag - 1
