"""JPEG files whose data end too early are refused, also if an end marker follows."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from opera_env.data.images import read_image
from opera_env.data.read import read_photo
from opera_env.data.read_jpeg import check_jpeg, read_structure
from opera_env.errors import ImageFileError

PIXELS = 96 * 128
END = b"\xff\xd9"

KINDS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "optimised": {"optimize": True},
    "no subsampling": {"subsampling": 0},
    "restart every row": {"restart_marker_rows": 1},
    "restart every block": {"restart_marker_blocks": 1},
    "grey": {"mode": "L"},
    "CMYK": {"mode": "CMYK"},
    "progressive": {"progressive": True},
    "progressive with restarts": {"progressive": True, "restart_marker_rows": 1},
}


@pytest.fixture(scope="module")
def picture(make_photograph: Callable[[int, int, int], Image.Image]) -> Image.Image:
    return make_photograph(96, 128, 0)


def jpeg(picture: Image.Image, mode: str = "RGB", **options: Any) -> bytes:
    file = BytesIO()
    picture.convert(mode).save(file, "JPEG", **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", KINDS)
def test_absent_pixels_are_noticed_before_an_end_marker(
    tmp_path: Path, picture: Image.Image, kind: str
) -> None:
    data, path = jpeg(picture, **KINDS[kind]), tmp_path / "a.jpg"
    path.write_bytes(data)
    assert check_jpeg(path, PIXELS) == []
    start = data.index(b"\xff\xda") + 30
    for end in np.linspace(start, 0.98 * len(data), 25).astype(int):
        path.write_bytes(data[:end] + END)
        try:  # a progressive file may also be cut between two scans
            assert "its last scans are absent, so it may lack detail" in read_photo(path).notices
            assert "progressive" in kind
        except ImageFileError as error:
            assert "cut short, only" in str(error) or "truncated" in str(error) or "broken" in str(error)


def test_how_much_is_there_is_reported(tmp_path: Path, picture: Image.Image) -> None:
    data = jpeg(picture, restart_marker_rows=1)
    third_row = data.index(b"\xff\xd2")  # the end of the third of six rows of blocks
    (tmp_path / "a.jpg").write_bytes(data[:third_row] + END)
    with pytest.raises(ImageFileError, match="cut short, only 50 % of the image"):
        check_jpeg(tmp_path / "a.jpg", PIXELS)


@pytest.mark.parametrize("read", [read_photo, read_image])
def test_readers_check_it(tmp_path: Path, picture: Image.Image, read: Callable[[Path], Any]) -> None:
    data = jpeg(picture)
    (tmp_path / "a.jpg").write_bytes(data[: len(data) // 2] + END)
    with pytest.raises(ImageFileError, match="cut short"):
        read(tmp_path / "a.jpg")


def test_absent_scans_are_mentioned(tmp_path: Path, picture: Image.Image) -> None:
    data = jpeg(picture, progressive=True)
    last_scan = data.rindex(b"\xff\xda")
    (tmp_path / "a.jpg").write_bytes(data[: data.rindex(b"\xff\xc4", 0, last_scan)] + END)
    assert read_photo(tmp_path / "a.jpg").notices == ("its last scans are absent, so it may lack detail",)


@pytest.mark.parametrize("colour", ["white", "black", (128, 128, 128), (200, 30, 40)])
@pytest.mark.parametrize("kind", KINDS)
def test_flat_images_pass(tmp_path: Path, kind: str, colour: Any) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg(Image.new("RGB", (50, 70), colour), **KINDS[kind]))
    assert check_jpeg(tmp_path / "a.jpg", PIXELS) == []


def test_what_follows_the_end_and_thumbnails_before_it_are_no_part_of_the_image(
    tmp_path: Path, picture: Image.Image
) -> None:
    thumbnail = jpeg(picture.resize((16, 16)))
    exif = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    data = jpeg(picture)
    data = data[:2] + exif + data[2:] + b"junk" + END + jpeg(picture)[:300]
    (tmp_path / "a.jpg").write_bytes(data)
    assert check_jpeg(tmp_path / "a.jpg", PIXELS) == []
    assert read_structure(data).end == data.index(END + b"junk")
    shorter = data.replace(data[data.index(END + b"junk") - 400 : data.index(END + b"junk")], b"")
    (tmp_path / "a.jpg").write_bytes(shorter)
    with pytest.raises(ImageFileError, match="cut short"):
        check_jpeg(tmp_path / "a.jpg", PIXELS)


def test_the_structure_is_read(picture: Image.Image) -> None:
    assert read_structure(jpeg(picture)).frame == 0xC0
    progressive = read_structure(jpeg(picture, progressive=True))
    assert (progressive.frame, progressive.depth, progressive.lacks_scans) == (0xC2, 8, False)
    assert read_structure(b"\xff\xd8").end is None
    assert read_structure(jpeg(picture)[:-2]).end is None


def test_many_scans_are_refused(tmp_path: Path, picture: Image.Image) -> None:
    """A scan of ten bytes takes a pass over an image of any size."""
    data = jpeg(picture, progressive=True)
    scan = data.rindex(b"\xff\xda")
    end = data.rindex(END)
    assert 1 < read_structure(data).scans < 20
    (tmp_path / "a.jpg").write_bytes(data[:end] + data[scan:end] * 200 + END)
    with pytest.raises(ImageFileError, match=r"has 2\d\d scans, at most 200"):
        read_photo(tmp_path / "a.jpg")


def test_what_follows_an_image_is_not_read(tmp_path: Path, picture: Image.Image) -> None:
    """A sparse file of 50 GB."""
    data = jpeg(picture)
    (tmp_path / "a.jpg").write_bytes(data)
    with (tmp_path / "a.jpg").open("r+b") as file:
        file.truncate(50 * 10**9)
    assert read_photo(tmp_path / "a.jpg").size == (96, 128)
    (tmp_path / "a.jpg").unlink()
