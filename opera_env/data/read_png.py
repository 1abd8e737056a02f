"""PNG files: the header, a check that all pixels are there, and pixels of 16 bits a channel."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import imagecodecs
import numpy as np

from opera_env.data.photo import Pixels
from opera_env.errors import ImageFileError

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER = struct.Struct(">IIBBBBB")
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Channels of each colour type."""

_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""First column, first row and the steps between columns and rows of each pass of an interlaced image."""

_COLOUR_CHUNK_BYTES = {b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"cICP": 4}

_BLOCK_BYTES = 2**20
"""Bytes that are decompressed at once."""


@dataclass(frozen=True)
class PngHeader:
    """The header of a PNG file.

    Attributes:
        width: In pixels.
        height: In pixels.
        depth: Bits per channel.
        bits: Bits per pixel.
        interlaced: Whether the pixels are stored in seven passes.
    """

    width: int
    height: int
    depth: int
    bits: int
    interlaced: bool

    @property
    def data_bytes(self) -> int:
        """Bytes of all rows before compression; each row begins with the number of its filter."""
        passes = _ADAM7 if self.interlaced else ((0, 0, 1, 1),)
        total = 0
        for left, top, step_x, step_y in passes:
            width = -((left - self.width) // step_x)
            height = -((top - self.height) // step_y)
            if width > 0 and height > 0:
                total += height * (1 + (width * self.bits + 7) // 8)
        return total


def read_png_header(path: Path) -> PngHeader:
    """Reads the header of a PNG file.

    Raises:
        ImageFileError: If the file does not begin with a header.
    """
    with path.open("rb") as file:
        head = file.read(16 + _HEADER.size)
    if len(head) < 16 + _HEADER.size or head[12:16] != b"IHDR":
        raise ImageFileError(path, "damaged: a PNG file without a header")
    width, height, depth, colour_type, _, _, interlace = _HEADER.unpack(head[16:])
    return PngHeader(width, height, depth, depth * _CHANNELS.get(colour_type, 1), interlace == 1)


def check_png(path: Path) -> None:
    """Checks that the compressed data of a PNG file hold all rows, which Pillow would otherwise fill.

    Raises:
        ImageFileError: If rows are absent or a checksum does not fit.
    """
    expected = read_png_header(path).data_bytes
    decompressor, found = zlib.decompressobj(), 0
    try:
        for data in _image_data(path):
            while data and found < expected and not decompressor.eof:
                found += len(decompressor.decompress(data, _BLOCK_BYTES))
                data = decompressor.unconsumed_tail
    except zlib.error as error:
        raise ImageFileError(path, f"damaged: broken data ({error})") from error
    if found < expected:
        raise ImageFileError(path, cut_short(found / expected))


def cut_short(fraction: float) -> str:
    """Returns the reason why a file is refused of which only a fraction is there.

    Example:
        >>> cut_short(0.05)
        'cut short, only 5 % of the image are there: get a whole copy of the file'
    """
    return f"cut short, only {100 * fraction:.0f} % of the image are there: get a whole copy of the file"


def _chunks(file: IO[bytes]) -> Iterator[tuple[bytes, int]]:
    """Yields the kind and length of each chunk, with the file at its data, up to the end of the image."""
    place = len(_SIGNATURE)
    while len(head := _read_at(file, place, 8)) == 8:
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        yield kind, length
        place += 8 + length + 4
        if kind == b"IEND":
            return


def _read_at(file: IO[bytes], place: int, count: int) -> bytes:
    file.seek(place)
    return file.read(count)


def _image_data(path: Path) -> Iterator[bytes]:
    """Yields the compressed data of the first image in blocks, and compares their checksums."""
    with path.open("rb") as file:
        for kind, length in _chunks(file):
            if kind != b"IDAT":
                continue
            checksum = zlib.crc32(kind)
            while length > 0 and (block := file.read(min(length, _BLOCK_BYTES))):
                yield block
                checksum, length = zlib.crc32(block, checksum), length - len(block)
            stored = file.read(4)
            if len(stored) == 4 and int.from_bytes(stored, "big") != checksum:
                raise ImageFileError(path, "damaged: broken data, the checksum of pixels does not fit")


def read_colour_chunks(path: Path) -> tuple[tuple[bytes, bytes], ...]:
    """Reads the kind and the data of the chunks that say what the levels of a PNG file mean."""
    found: dict[bytes, bytes] = {}
    with path.open("rb") as file:
        for kind, length in _chunks(file):
            if kind == b"IDAT":
                break
            if length == _COLOUR_CHUNK_BYTES.get(kind):
                found.setdefault(kind, file.read(length))
    return tuple(found.items())


def decode_16bit_png(path: Path) -> Pixels:
    """Decodes a PNG file to uint16 (H, W, C), C from 1 to 4 with alpha last."""
    with path.open("rb") as file:
        ends = [file.tell() + length + 4 for _, length in _chunks(file)]
        data = _read_at(file, 0, ends[-1])  # what follows the image may be of any length
    return np.atleast_3d(imagecodecs.png_decode(data))
