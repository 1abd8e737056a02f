"""What cameras note in their files: as much of it as is still true of a photograph that was mended."""

from __future__ import annotations

import warnings
from collections.abc import Callable, MutableMapping
from typing import Any

from PIL import ExifTags, Image

ORIENTATION_TAG = ExifTags.Base.Orientation

IFD_POINTER_TAGS = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
"""Tags that point to further tags."""

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
"""Tags of a TIFF file that speak of the photograph, not of how it is stored."""

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
"""Tags of other files that speak of how pixels were stored, some cameras' habit: no longer true."""


def read_exif(picture: Image.Image) -> Image.Exif:
    """Reads the EXIF data of an opened picture, and raises what is wrong with it."""
    exif = picture.getexif()
    if "exif" not in picture.info:
        return exif
    again = Image.Exif()  # Pillow reads that of a JPEG file on opening, and forgets what was wrong with it
    again.load(picture.info["exif"])
    if ORIENTATION_TAG not in again and ORIENTATION_TAG in exif:  # which Pillow also finds in XMP
        again[ORIENTATION_TAG] = exif[ORIENTATION_TAG]
    return again


def filter_exif(
    read: Callable[[], Image.Exif], kind: str, notices: list[str]
) -> tuple[Image.Exif | None, int]:
    """Keeps what EXIF says of the photograph; nothing of how the old file was stored or turned.

    Args:
        read: Reads the data; what it raises or warns of becomes a notice.
        kind: Format of the file.
        notices: Added to.

    Returns:
        The rest of the data, and the orientation, which is taken out of it.
    """
    orientation = 1
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            exif = read()
            orientation = exif.pop(ORIENTATION_TAG, 1)
            for tag in set(exif) & STORAGE_TAGS if kind != "TIFF" else set(exif) - DESCRIPTIVE_TAGS:
                del exif[tag]
            kept = copy_exif(exif)
        except Exception as error:  # noqa: BLE001 - cameras write nonsense, and Pillow notices when it writes it again
            notices.append(f"its EXIF data is damaged and left out ({type(error).__name__})")
            kept = None
        else:
            if warned:
                notices.append("parts of its EXIF data are damaged and left out")
    return kept or None, orientation if isinstance(orientation, int) else 1


class _Latin1Str(str):
    """A text that Pillow writes with the bytes that it read, instead of question marks."""

    def encode(self, encoding: str = "latin-1", errors: str = "replace") -> bytes:
        return super().encode("latin-1", "replace")


def copy_exif(exif: Image.Exif) -> Image.Exif:
    """Returns EXIF data that depends on no file, and no longer on the original."""
    for tag in IFD_POINTER_TAGS:
        if tag in exif:
            _preserve_latin1(exif.get_ifd(tag))
    _preserve_latin1(exif)
    exif.bigtiff = False  # which Pillow writes and does not read
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
