"""Files that claim more pixels than their bytes can encode are refused before anything is decoded."""

from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from opera_env.data import claims
from opera_env.data.images import read_image
from opera_env.data.read import read_format, read_photo, read_size
from opera_env.errors import ImageFileError

Reader = Callable[[Path], Any]

HEIGHT, WIDTH = 1200, 1800
FLAT = np.full((HEIGHT, WIDTH, 3), (120, 90, 33), np.uint8)


def _saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    file = BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def _tiff(pixels: np.ndarray[Any, Any], **options: Any) -> bytes:
    file = BytesIO()
    grey = pixels.ndim == 2
    tifffile.imwrite(file, pixels, photometric="minisblack" if grey else "rgb", metadata=None, **options)
    return file.getvalue()


def _claim(kind: str, side: int = 13000) -> bytes:
    """Returns a small file whose header claims a square of this side."""
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (21, 21, 3), np.uint8))
    data = bytearray(_saved(picture, kind, **({"lossless": True} if kind == "WEBP" else {})))
    if kind == "PNG":
        data[16:24] = struct.pack(">II", side, side)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    elif kind == "JPEG":
        place = data.index(b"\xff\xc0") + 5
        data[place : place + 4] = struct.pack(">HH", side, side)
    elif kind == "BMP":
        data[18:26] = struct.pack("<ii", side, side)
    else:  # 14 bits for the width, 14 for the height, both less one
        data[21:25] = struct.pack("<I", (side - 1) | (side - 1) << 14)
    return bytes(data)


def _claim_tiff(dtype: Any, compression: str | None) -> bytes:
    data = bytearray(_tiff(np.zeros((21, 21, 3), dtype), compression=compression))
    with tifffile.TiffFile(BytesIO(bytes(data))) as file:
        page: Any = file.pages[0]
        places = [page.tags[name].valueoffset for name in ("ImageWidth", "ImageLength", "RowsPerStrip")]
    for place in places:
        data[place : place + 2] = struct.pack("<H", 13000)
    return bytes(data)


CLAIMS = {kind: _claim(kind) for kind in ("PNG", "JPEG", "BMP", "WEBP")} | {
    f"TIFF {np.dtype(dtype).name} {compression}": _claim_tiff(dtype, compression)
    for dtype in (np.uint8, np.uint16)
    for compression in (None, "lzw", "zlib", "packbits", "zstd", "lzma")
}


@pytest.mark.parametrize("kind", CLAIMS)
@pytest.mark.parametrize("read", [read_photo, read_size, read_format, read_image])
def test_a_small_file_cannot_claim_169_million_pixels(tmp_path: Path, kind: str, read: Reader) -> None:
    path = tmp_path / "claim.bin"
    path.write_bytes(CLAIMS[kind])
    start = time.perf_counter()
    with pytest.raises(
        ImageFileError, match=r"claims 13000 x 13000 pixels, but its \d+ bytes can"
    ) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    assert time.perf_counter() - start < 2


GREY = FLAT[..., 0]
DEEP = FLAT.astype(np.uint16) * 257

FLAT_FILES: dict[str, Callable[[], bytes]] = {
    "baseline": lambda: _saved(Image.fromarray(FLAT), "JPEG", quality=1, optimize=True),
    "progressive": lambda: _saved(
        Image.fromarray(FLAT), "JPEG", quality=1, optimize=True, progressive=True, subsampling=2
    ),
    "grey JPEG": lambda: _saved(Image.fromarray(GREY), "JPEG", quality=1, optimize=True),
    "cv2 JPEG": lambda: cv2.imencode(".jpg", FLAT, [cv2.IMWRITE_JPEG_OPTIMIZE, 1])[1].tobytes(),
    "cv2 PNG": lambda: cv2.imencode(".png", FLAT, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tobytes(),
    "cv2 16-bit PNG": lambda: cv2.imencode(".png", DEEP, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tobytes(),
    "cv2 WebP": lambda: cv2.imencode(".webp", FLAT, [cv2.IMWRITE_WEBP_QUALITY, 1])[1].tobytes(),
    "cv2 TIFF": lambda: cv2.imencode(".tif", FLAT)[1].tobytes(),
    "PNG": lambda: _saved(Image.fromarray(FLAT), "PNG", optimize=True),
    "1-bit PNG": lambda: _saved(Image.fromarray(GREY > 0), "PNG", compress_level=9),
    "BMP": lambda: _saved(Image.fromarray(FLAT), "BMP"),
    "1-bit BMP": lambda: _saved(Image.fromarray(GREY > 0), "BMP"),
    "WebP": lambda: _saved(Image.fromarray(FLAT), "WEBP", quality=0),
    "lossless WebP": lambda: _saved(Image.fromarray(FLAT), "WEBP", lossless=True),
    "JPEG in TIFF": lambda: _saved(Image.fromarray(FLAT), "TIFF", compression="jpeg", strip_size=2**24),
    "group 3": lambda: _saved(Image.fromarray(GREY > 0), "TIFF", compression="group3"),
    "group 4": lambda: _saved(Image.fromarray(GREY > 0), "TIFF", compression="group4", strip_size=2**24),
} | {
    f"TIFF {compression} {pixels.dtype.name}": lambda compression=compression, pixels=pixels: _tiff(
        pixels, compression=compression, rowsperstrip=HEIGHT
    )
    for compression in (None, "lzw", "zlib", "packbits", "zstd", "lzma")
    for pixels in (FLAT, DEEP)
}


@pytest.mark.parametrize("kind", FLAT_FILES)
def test_flat_images_pass_at_the_best_compression(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit holds for encoders as they are, even without the pixels that any file may claim."""
    monkeypatch.setattr(claims, "FREE_PIXELS", 0)
    (tmp_path / "flat").write_bytes(FLAT_FILES[kind]())
    assert read_size(tmp_path / "flat") == (HEIGHT, WIDTH)
    assert read_photo(tmp_path / "flat").size == (HEIGHT, WIDTH)


def test_small_files_may_claim_what_a_usual_photograph_has(tmp_path: Path) -> None:
    Image.new("RGB", (4000, 3000), "white").save(tmp_path / "a.webp", lossless=True)
    assert (tmp_path / "a.webp").stat().st_size < 1000
    assert read_photo(tmp_path / "a.webp").size == (3000, 4000)
