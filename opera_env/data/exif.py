"""EXIF data: selects the tags that still apply to a photograph after restoration."""

from __future__ import annotations

import warnings
from collections.abc import Callable, MutableMapping
from typing import Any

from PIL import ExifTags, Image

ORIENTATION_TAG = ExifTags.Base.Orientation

IFD_POINTER_TAGS = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
"""Tags that point to directories of further tags."""

DESCRIPTIVE_TAGS = frozenset(
    {
        ExifTags.Base.DocumentName,
        ExifTags.Base.ImageDescription,
        ExifTags.Base.Make,
        ExifTags.Base.Model,
        ExifTags.Base.PageName,
        ExifTags.Base.Software,
        ExifTags.Base.DateTime,
        ExifTags.Base.Artist,
        ExifTags.Base.HostComputer,
        ExifTags.Base.Copyright,
        ExifTags.Base.XPTitle,
        ExifTags.Base.XPComment,
        ExifTags.Base.XPAuthor,
        ExifTags.Base.XPKeywords,
        ExifTags.Base.XPSubject,
        *IFD_POINTER_TAGS,
    }
)
"""Tags of a TIFF file that describe the photograph and not its storage."""

STORAGE_TAGS = frozenset(
    {
        ExifTags.Base.ImageWidth,
        ExifTags.Base.ImageLength,
        ExifTags.Base.BitsPerSample,
        ExifTags.Base.Compression,
        ExifTags.Base.PhotometricInterpretation,
        ExifTags.Base.StripOffsets,
        ExifTags.Base.SamplesPerPixel,
        ExifTags.Base.RowsPerStrip,
        ExifTags.Base.StripByteCounts,
        ExifTags.Base.PlanarConfiguration,
        ExifTags.Base.SubIFDs,
        ExifTags.Base.JpegIFOffset,
        ExifTags.Base.JpegIFByteCount,
        ExifTags.Base.XMLPacket,
        ExifTags.Base.InterColorProfile,
    }
)
"""Tags with which some cameras describe the storage of pixels in other files; they no longer apply."""


def read_exif(image: Image.Image) -> Image.Exif:
    """Returns the EXIF data of an opened image; damaged data raise errors or warnings of Pillow."""
    exif = image.getexif()
    if "exif" not in image.info:
        return exif
    # Pillow reads the EXIF data of a JPEG file when it opens the file, and hides the errors.
    reread = Image.Exif()
    reread.load(image.info["exif"])
    if ORIENTATION_TAG not in reread and ORIENTATION_TAG in exif:  # Pillow also takes it from XMP
        reread[ORIENTATION_TAG] = exif[ORIENTATION_TAG]
    return reread


def filter_exif(
    read: Callable[[], Image.Exif], format_name: str, notices: list[str]
) -> tuple[Image.Exif | None, int]:
    """Keeps the tags that describe the photograph, without those of its storage and orientation.

    Args:
        read: Returns the data; its errors and warnings become notices.
        format_name: Format of the file, under Pillow's name.
        notices: A notice of each omission is appended.

    Returns:
        The data that are kept, None if there are none, and the orientation, which is removed from them.
    """
    orientation = 1
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            exif = read()
            orientation = exif.pop(ORIENTATION_TAG, 1)
            for tag in set(exif) & STORAGE_TAGS if format_name != "TIFF" else set(exif) - DESCRIPTIVE_TAGS:
                del exif[tag]
            filtered = copy_exif(exif)
        except Exception as error:  # noqa: BLE001 - damaged data raise errors of all kinds, some of them when they are written
            notices.append(f"its EXIF data is damaged and left out ({type(error).__name__})")
            filtered = None
        else:
            if warned:
                notices.append("parts of its EXIF data are damaged and left out")
    return filtered or None, orientation if isinstance(orientation, int) else 1


class _Latin1Str(str):
    """A text that Pillow writes with the bytes that it was read from, instead of with question marks."""

    def encode(self, encoding: str = "latin-1", errors: str = "replace") -> bytes:
        return super().encode("latin-1", "replace")


def copy_exif(exif: Image.Exif) -> Image.Exif:
    """Returns a copy of EXIF data that depends neither on the original nor on a file."""
    for tag in IFD_POINTER_TAGS:
        if tag in exif:
            _preserve_latin1(exif.get_ifd(tag))
    _preserve_latin1(exif)
    exif.bigtiff = False  # Pillow writes this variant and cannot read it
    copy = Image.Exif()
    copy.load(exif.tobytes())
    for tag in IFD_POINTER_TAGS:
        if tag in copy:
            _preserve_latin1(copy.get_ifd(tag))
    _preserve_latin1(copy)
    return copy


def _preserve_latin1(directory: MutableMapping[int, Any]) -> None:
    for tag, value in list(directory.items()):
        if isinstance(value, str):
            directory[tag] = _Latin1Str(value)
