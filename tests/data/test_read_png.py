"""PNG files that hold less than their header says are refused, however they end."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from opera_env.data.images import read_image
from opera_env.data.read import read_photo
from opera_env.data.read_png import check_png, read_png_header
from opera_env.errors import ImageFileError

HEIGHT, WIDTH = 200, 30
COLOUR_TYPES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(data: bytes, depth: int = 8, colour_type: int = 2, interlace: int = 0) -> bytes:
    """Returns a PNG file that is formally whole, with any data."""
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, depth, colour_type, 0, 0, interlace)
    palette = chunk(b"PLTE", bytes(range(256)) * 3) if colour_type == 3 else b""
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [chunk(b"IHDR", header), palette, chunk(b"IDAT", zlib.compress(data)), chunk(b"IEND", b"")]
    )


def rows(count: int, depth: int = 8, colour_type: int = 2) -> bytes:
    bits = WIDTH * depth * COLOUR_TYPES[colour_type]
    row = np.random.default_rng(0).integers(0, 256, (bits + 7) // 8, np.uint8).tobytes()
    return (b"\0" + row) * count


DEPTHS = [
    (1, 0),
    (2, 0),
    (8, 0),
    (16, 0),
    (8, 2),
    (16, 2),
    (1, 3),
    (4, 3),
    (8, 4),
    (16, 4),
    (8, 6),
    (16, 6),
]


@pytest.mark.parametrize("read", [read_photo, read_image])
@pytest.mark.parametrize(("depth", "colour_type"), DEPTHS)
@pytest.mark.parametrize(("count", "percent"), [(0, "0 %"), (10, "5 %"), (199, "100 %")])
def test_absent_rows_are_noticed_in_a_file_that_ends_as_it_should(
    tmp_path: Path, depth: int, colour_type: int, count: int, percent: str, read: Callable[[Path], Any]
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(rows(count, depth, colour_type), depth, colour_type))
    with pytest.raises(ImageFileError, match="cut short, only") as caught:
        read(path)
    assert percent in str(caught.value)


@pytest.mark.parametrize(("depth", "colour_type"), DEPTHS)
def test_whole_files_pass(tmp_path: Path, depth: int, colour_type: int) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(rows(HEIGHT, depth, colour_type), depth, colour_type))
    assert read_photo(path).size == (HEIGHT, WIDTH)


@pytest.mark.parametrize("width", range(1, 10))
@pytest.mark.parametrize("height", range(1, 10))
def test_interlaced_files_have_seven_passes(tmp_path: Path, width: int, height: int) -> None:
    """The length is compared with the sum over pixels that the passes select."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 1)
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header))
    order = np.array(
        [
            [1, 6, 4, 6, 2, 6, 4, 6],
            [7, 7, 7, 7, 7, 7, 7, 7],
            [5, 6, 5, 6, 5, 6, 5, 6],
            [7, 7, 7, 7, 7, 7, 7, 7],
            [3, 6, 4, 6, 3, 6, 4, 6],
            [7, 7, 7, 7, 7, 7, 7, 7],
            [5, 6, 5, 6, 5, 6, 5, 6],
            [7, 7, 7, 7, 7, 7, 7, 7],
        ]
    )
    grid = np.tile(order, (2, 2))[:height, :width]
    expected = sum(
        1 + (int(count) + 7) // 8
        for number in range(1, 8)
        for count in (grid == number).sum(axis=1)
        if count
    )
    assert read_png_header(path).data_bytes == expected


def test_data_in_several_chunks_and_data_too_many_pass(tmp_path: Path) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8))
    file = BytesIO()
    picture.save(file, "PNG")  # Pillow writes chunks of 64 KiB
    assert file.getvalue().count(b"IDAT") > 3
    (tmp_path / "a.png").write_bytes(file.getvalue())
    check_png(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(png(rows(HEIGHT + 5)))
    check_png(tmp_path / "b.png")


def test_a_file_without_its_last_chunk_has_all_pixels(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(rows(HEIGHT))[:-12])
    assert read_photo(tmp_path / "a.png").size == (HEIGHT, WIDTH)


@pytest.mark.parametrize("read", [read_photo, read_image])
def test_a_changed_byte_is_noticed_by_the_checksum(tmp_path: Path, read: Callable[[Path], Any]) -> None:
    data = bytearray(png(rows(HEIGHT)))
    place = data.index(b"IDAT") + 40
    data[place] ^= 16
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(ImageFileError, match="damaged: broken data"):
        read(tmp_path / "a.png")


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_a_transparent_level_of_few_bits(tmp_path: Path, depth: int) -> None:
    """Pillow scales the pixels to 8 bits, but not the level that is transparent."""
    stored, level = b"\0\xff" + rows(HEIGHT, depth, 0)[2:], 2**depth - 1
    data = png(stored, depth, 0)
    place = data.index(b"IDAT") - 4
    mark = chunk(b"tRNS", struct.pack(">H", level))
    (tmp_path / "a.png").write_bytes(data[:place] + mark + data[place:])
    photo = read_photo(tmp_path / "a.png")
    assert photo.alpha is not None
    assert np.array_equal(photo.alpha == 0, photo.pixels[..., 0] == 255)
    assert (photo.alpha == 0).any()


@pytest.mark.parametrize("depth", [8, 16])
def test_what_follows_an_image_is_not_read(tmp_path: Path, depth: int) -> None:
    """A sparse file of 50 GB."""
    (tmp_path / "a.png").write_bytes(png(rows(HEIGHT, depth), depth))
    with (tmp_path / "a.png").open("r+b") as file:
        file.truncate(50 * 10**9)
    assert read_photo(tmp_path / "a.png").size == (HEIGHT, WIDTH)
    (tmp_path / "a.png").unlink()


@pytest.mark.parametrize("depth", [8, 16])
def test_large_profiles_are_kept_and_damaged_ones_are_mentioned(tmp_path: Path, depth: int) -> None:
    data = png(rows(HEIGHT, depth), depth)
    place = data.index(b"IDAT") - 4
    profile = bytes(3_000_000)
    large = chunk(b"iCCP", b"name\0\0" + zlib.compress(profile))
    (tmp_path / "a.png").write_bytes(data[:place] + large + data[place:])
    assert read_photo(tmp_path / "a.png").icc == profile
    broken = chunk(b"iCCP", b"name\0\0nonsense")
    (tmp_path / "a.png").write_bytes(data[:place] + broken + data[place:])
    photo = read_photo(tmp_path / "a.png")
    assert (photo.icc, photo.notices) == (None, ("its colour profile is damaged and left out",))
