"""A limit on the pixels that an image file may claim, from what its bytes can encode."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from opera_env.data.read_8bit import is_lossless_webp
from opera_env.data.read_png import read_png_header
from opera_env.errors import ImageFileError

FREE_PIXELS = 16_000_000
"""Pixels that a file of any length may claim: no more than a usual photograph has."""

_BYTES_PER_BYTE = {
    "raw": 1,
    "packbits": 64,
    "deflate": 1032,
    "lzw": 2731,
    "lzma": 8192,
    "zstd": 32768,
}
"""Most bytes of pixels that one byte of a file can encode.

PackBits repeats a byte 128 times with two bytes. Deflate repeats 258 bytes with two bits, LZW at most 4,094
bytes with a code of 12 bits, Zstandard a block of 128 KiB with four bytes. LZMA repeats 273 bytes with
about 0.31 bits.
"""

_PIXELS_PER_BYTE = {"jpeg": 1024, "vp8": 1024}
"""Most pixels that one byte can encode, for codecs without a fixed number of bits per pixel.

A Huffman code of JPEG has at least one bit for each block of 8 x 8 pixels of each component; the fewest
blocks, nine for 32 x 32 pixels, give 910 pixels. The modes of a macroblock of lossy WebP (16 x 16 pixels)
take 3.4 bits, because their probabilities are fixed in key frames: 600 pixels.
"""

_OTHER_PIXELS_PER_BYTE = 32768
"""For codecs that have no limit, such as lossless WebP and CCITT; flat images of libwebp have 25,000."""


def check_claim(path: Path, width: int, height: int, codec: str, bits: int = 8) -> None:
    """Checks that a file is long enough for the pixels that its header claims.

    Args:
        path: The file.
        width: Claimed width, in pixels.
        height: Claimed height, in pixels.
        codec: The compression, a key of the tables above, or any other name.
        bits: Bits per pixel before compression.

    Raises:
        ImageFileError: If no encoder would reach so many pixels with so few bytes.
    """
    length = path.stat().st_size
    if codec in _BYTES_PER_BYTE:
        possible = length * _BYTES_PER_BYTE[codec] * 8 // bits
    else:
        possible = length * _PIXELS_PER_BYTE.get(codec, _OTHER_PIXELS_PER_BYTE)
    possible = max(FREE_PIXELS, possible)
    if width * height > possible:
        raise ImageFileError(
            path,
            f"refused, it claims {width} x {height} pixels, but its {length} bytes can hold at most "
            f"{possible / 1e6:.1f} million: the file is cut short or damaged, get a whole copy of it",
        )


def check_opened_claim(path: Path, image: Image.Image) -> None:
    """Checks the claim of an image that Pillow has opened and not decoded; see :func:`check_claim`."""
    codec, bits = "other", 8
    if image.format == "PNG":
        codec, bits = "deflate", read_png_header(path).bits
    elif image.format in ("JPEG", "MPO"):
        codec = "jpeg"
    elif image.format == "WEBP" and not is_lossless_webp(path):
        codec = "vp8"
    check_claim(path, image.width, image.height, codec, bits)
