"""Valid files that are cut, changed, filled with zeros or followed by junk."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from PIL import Image

from tests.faults.odd_images.image import Array, OddImage, exif, levels, saved
from tests.faults.odd_images.png import png
from tests.faults.odd_images.tiff import tiff

HEIGHT, WIDTH = 45, 58


def _seeds() -> dict[str, tuple[bytes, Array | None]]:
    """Returns valid files, with their pixels where they are lossless."""
    true, deep = levels(HEIGHT, WIDTH, 3), levels(HEIGHT, WIDTH, 3, 16)
    picture = Image.fromarray(true)
    return {
        "plain.png": (saved(picture, "PNG"), true),
        "16bit.png": (png(deep, 16), deep),
        "adam7.png": (png(true, interlace=True), true),
        "plain.jpg": (saved(picture, "JPEG", exif=exif(1)), None),
        "progressive.jpg": (saved(picture, "JPEG", progressive=True), None),
        "raw.tif": (tiff(true), true),
        "lzw.tif": (tiff(true, compression="lzw"), true),
        "deflate.tif": (tiff(deep, compression="zlib", predictor=True), deep),
        "tiles.tif": (tiff(deep, tile=(16, 16), compression="zstd"), deep),
        "jpeg.tif": (saved(picture, "TIFF", compression="jpeg"), None),
        "plain.webp": (saved(picture, "WEBP"), None),
        "lossless.webp": (saved(picture, "WEBP", lossless=True), true),
        "plain.bmp": (saved(picture, "BMP"), true),
    }


def odd_broken_files() -> Iterator[OddImage]:
    """Yields 20 broken variants of each seed."""
    rng = np.random.default_rng(11)
    for name, (data, pixels) in _seeds().items():
        # The end of a TIFF file that tifffile writes is of pixels, like that of BMP.
        for fraction in (0.0, 0.001, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98):
            cut = data[: int(fraction * len(data))]
            yield OddImage(f"cut_{fraction}_{name}", cut, refusal="")
        for number in range(6):
            changed = bytearray(data)
            for place in rng.integers(0, len(data) if number % 2 else 200, 1 + number):
                changed[place] ^= 1 << int(rng.integers(0, 8))
            yield OddImage(f"flipped_{number}_{name}", bytes(changed))
        start = len(data) // 2
        zeros = data[:start] + bytes(200) + data[start + 200 :]
        yield OddImage(f"zeros_{name}", zeros)
        yield OddImage(f"hole_{name}", data[:start] + data[start + 100 :])
        yield OddImage(f"doubled_{name}", data[:start] + data[start - 100 :])
        if pixels is None:
            yield OddImage(f"junk_{name}", data + rng.bytes(3000), size=(HEIGHT, WIDTH))
        else:
            yield OddImage(f"junk_{name}", data + rng.bytes(3000), pixels)
        yield OddImage(f"shifted_{name}", b"\0" + data, refusal="")
