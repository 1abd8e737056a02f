"""JPEG files: a check that all pixels are there, although the file ends as it should."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import JpegImagePlugin

from opera_env.data.read_png import cut_short
from opera_env.errors import ImageFileError

_MARKER = re.compile(rb"\xff([^\x00\x01\xff\xd0-\xd7])", re.DOTALL)
"""A marker other than those within the data of a scan."""

_END, _SCAN = 0xD9, 0xDA
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
_HUFFMAN_FRAMES = (0xC0, 0xC1, 0xC2)
_UNSUPPORTED_FRAMES: Mapping[int, str] = {
    0xC3: "lossless coding",
    0xCB: "lossless coding",
    0xF7: "JPEG-LS coding",
} | dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF), "hierarchical coding")
_PROGRESSIVE = 0xC2
_FRAME = struct.Struct(">BHHB")
_COEFFICIENTS = 64

MAX_SCANS = 200
"""Largest number of scans. Encoders write about ten; each is a pass over the image, however short it is."""

_SAVE_AGAIN = "convert it to PNG, JPEG or TIFF"

_METADATA_BYTES, _MOST_BYTES_PER_PIXEL = 2**25, 16
"""Bytes before the pixels, where a profile has 17 MB at most, and more than noise takes at quality 100."""

_DRAFT_SCALE = 8
"""Side of an image divided by the side of its draft: one pixel for each block."""


@dataclass(frozen=True)
class JpegStructure:
    """The structure of the first image of a JPEG file.

    Attributes:
        frame: Marker of its frame, which tells the process of coding; None if there is no frame.
        depth: Bits per channel.
        width: In pixels.
        height: In pixels.
        end: Position of the marker that ends the image; None if there is none.
        scans: Number of scans.
        lacks_scans: Whether the scans of a progressive image transmit less than all coefficients.
    """

    frame: int | None
    depth: int
    width: int
    height: int
    end: int | None
    scans: int
    lacks_scans: bool


def read_structure(data: bytes) -> JpegStructure:
    """Follows the markers of a JPEG file until its first image ends."""
    frame, end, position = None, None, 2
    depth, height, width, components, scans = 8, 0, 0, 0, 0
    bits_left: dict[tuple[int, int], int] = {}
    while (found := _MARKER.search(data, position)) is not None:
        marker, start = found[1][0], found.end()
        if marker == _END:
            end = found.start()
            break
        position = start + int.from_bytes(data[start : start + 2], "big")
        segment = data[start + 2 : position]
        if frame is None and marker in _FRAMES and len(segment) >= _FRAME.size:
            frame, (depth, height, width, components) = marker, _FRAME.unpack(segment[: _FRAME.size])
        elif marker == _SCAN:
            scans += 1
            if frame == _PROGRESSIVE and len(segment) >= 6:
                first, last, approximation = segment[-3:]
                for component in segment[1:-3:2]:
                    for coefficient in range(first, min(last, _COEFFICIENTS - 1) + 1):
                        bits_left[component, coefficient] = approximation & 15
    lacks_scans = frame == _PROGRESSIVE and (
        len(bits_left) < _COEFFICIENTS * components or any(bits_left.values())
    )
    return JpegStructure(frame, depth, width, height, end, scans, lacks_scans)


def unsupported_coding(structure: JpegStructure) -> str | None:
    """Returns why the coding of a JPEG file is not supported, or None if it is."""
    if structure.scans > MAX_SCANS:
        return f"refused, it has {structure.scans} scans, at most {MAX_SCANS} are read: {_SAVE_AGAIN}"
    coding = (
        f"{structure.depth} bits" if structure.depth != 8 else _UNSUPPORTED_FRAMES.get(structure.frame or 0)
    )
    return f"JPEG with {coding} is not supported: {_SAVE_AGAIN}" if coding else None


def read_jpeg_data(path: Path, pixels: int) -> bytes:
    """Reads a JPEG file, but no more than its image can need; what follows may be of any length."""
    with path.open("rb") as file:
        return file.read(_METADATA_BYTES + _MOST_BYTES_PER_PIXEL * pixels)


def check_jpeg(path: Path, pixels: int) -> list[str]:
    """Checks that the data of a JPEG file reach to the last row.

    Where the data of a scan end too early, decoders fill the image with grey and report nothing to Pillow.
    Here further data are put before the end of the image: they change its pixels if a decoder still
    expects some, and only then. The absence of a part of the last block may go unnoticed. Files with
    arithmetic coding are not checked, because their encoders leave out zeros at the end.

    Args:
        path: The file.
        pixels: Number of pixels that its header claims.

    Returns:
        A notice if the file lacks scans, which the format allows; else nothing.

    Raises:
        ImageFileError: If pixels are absent, or if the coding is not supported.
    """
    data = read_jpeg_data(path, pixels)
    found = read_structure(data)
    if (reason := unsupported_coding(found)) is not None:
        raise ImageFileError(path, reason)
    if found.frame not in _HUFFMAN_FRAMES or found.end is None:  # Pillow reports what is absent then
        return []
    filler = np.random.default_rng(0).integers(0, 255, 256, np.uint8).tobytes()
    restarts = b"".join(bytes([0xFF, 0xD0 + number]) + filler for number in range(8))
    longer = data[: found.end] + filler + restarts + data[found.end :]
    whole = found.frame == _PROGRESSIVE  # a draft shows nothing of scans other than the first
    before, after = _row_checksums(data, whole), _row_checksums(longer, whole)
    if before != after:
        complete = next(row for row, same in enumerate(map(int.__eq__, before, after)) if not same)
        raise ImageFileError(path, cut_short(complete / len(before)))
    return ["its last scans are absent, so it may lack detail"] if found.lacks_scans else []


def _row_checksums(data: bytes, whole: bool) -> list[int]:
    """Decodes an image, in full or as a draft, and returns a checksum of each row."""
    image = JpegImagePlugin.JpegImageFile(BytesIO(data))
    if not whole:
        image.draft(None, (max(1, image.width // _DRAFT_SCALE), max(1, image.height // _DRAFT_SCALE)))
    image.load()
    return [zlib.crc32(row) for row in np.asarray(image)]
