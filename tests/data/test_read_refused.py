"""Unreadable files are refused in one line with their path."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageCms

from opera_env.data.photo import FORMATS
from opera_env.data.read import open_image, read_photo
from opera_env.errors import ImageFileError

Array = NDArray[Any]

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def noise(height: int, width: int, channels: int, dtype: Any = np.uint8, seed: int = 0) -> Array:
    values = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, (height, width, channels))
    return values.astype(dtype)


def refusal(path: Path) -> str:
    with pytest.raises(ImageFileError) as caught:
        read_photo(path)
    assert caught.value.path == path
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


def test_absent_folder_and_empty_are_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "absent.png") == "no such file"
    (tmp_path / "folder.png").mkdir()
    assert "folder" in refusal(tmp_path / "folder.png").removeprefix("folder.png")
    (tmp_path / "empty.png").touch()
    assert "empty" in refusal(tmp_path / "empty.png")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    message: list[str] = []
    thread = threading.Thread(target=lambda: message.append(refusal(tmp_path / "pipe.png")), daemon=True)
    thread.start()
    thread.join(10)
    assert message == ["not a regular file"]


@pytest.mark.parametrize("suffix", [suffix for known in FORMATS.values() for suffix in known.suffixes])
def test_text_is_refused(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"a{suffix}").write_text("Dear Sir or Madam,\nno image is enclosed.\n" * 50)
    assert refusal(tmp_path / f"a{suffix}") == "damaged, or not PNG, JPEG, TIFF, WEBP, BMP"


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("GIF", "GIF"),
        ("PPM", "PNM"),
        ("ICO", "an icon (ICO)"),
        ("JPEG2000", "JPEG 2000"),
        ("AVIF", "AVIF"),
        ("PDF", "a PDF document"),
        ("QOI", "QOI"),
    ],
)
def test_other_formats_are_named(tmp_path: Path, kind: str, name: str) -> None:
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png", kind)
    assert refusal(tmp_path / "a.png").startswith(f"{name} is not supported: ")


def write(path: Path, is_16bit: bool = False) -> bytes:
    if path.suffix == ".png" and is_16bit:
        path.write_bytes(imagecodecs.png_encode(noise(64, 64, 3, np.uint16)))
    elif is_16bit:
        pixels = noise(64, 64, 3, np.uint16)
        tifffile.imwrite(path, pixels, photometric="rgb", compression="zlib", rowsperstrip=8)
    else:
        Image.fromarray(noise(64, 64, 3)).save(path)
    return path.read_bytes()


EVERY = pytest.mark.parametrize(
    ("suffix", "is_16bit"),
    [
        (".png", False),
        (".png", True),
        (".jpg", False),
        (".tif", False),
        (".tif", True),
        (".webp", False),
        (".bmp", False),
    ],
)


@EVERY
def test_cut_short_is_refused(
    tmp_path: Path, suffix: str, is_16bit: bool, subtests: pytest.Subtests
) -> None:
    path = tmp_path / f"a{suffix}"
    whole = write(path, is_16bit)
    for fraction in (0.02, 0.3, 0.6, 0.9):
        with subtests.test(fraction=fraction):
            path.write_bytes(whole[: int(fraction * len(whole))])
            refusal(path)


@pytest.mark.parametrize("fraction", [0.5, 0.95])
def test_an_uncompressed_16_bit_tiff_cut_short_is_refused(tmp_path: Path, fraction: float) -> None:
    tifffile.imwrite(tmp_path / "a.tif", noise(64, 64, 3, np.uint16), photometric="rgb")
    whole = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(whole[: int(fraction * len(whole))])
    refusal(tmp_path / "a.tif")


@EVERY
def test_damaged_files_give_a_photograph_or_an_image_file_error(
    tmp_path: Path, suffix: str, is_16bit: bool
) -> None:
    path = tmp_path / f"a{suffix}"
    whole = write(path, is_16bit)
    rng = np.random.default_rng(0)
    refused = 0
    for attempt in range(60):
        data = bytearray(whole)
        places = rng.integers(0, 200 if attempt % 2 else len(data), 4)
        for place in places:
            data[place] = rng.integers(256)
        path.write_bytes(data)
        try:
            photo = read_photo(path)
        except ImageFileError as error:
            assert str(path) in str(error) and "\n" not in str(error)
            refused += 1
        else:
            assert photo.pixels.ndim == 3
    assert refused > 0


def test_a_16_bit_tiff_that_lacks_parts_is_refused(tmp_path: Path) -> None:
    """The parts would be black, and tifffile only logs it."""
    path = tmp_path / "a.tif"
    whole = write(path, is_16bit=True)
    with tifffile.TiffFile(path) as file:
        page: Any = file.pages[0]
        entry = page.tags["StripByteCounts"].offset
    for kind, count in ((99, 8), (4, 1), (3, 4)):
        path.write_bytes(whole[: entry + 2] + struct.pack("<HI", kind, count) + whole[entry + 8 :])
        refusal(path)


def test_decoders_print_nothing_of_their_own(tmp_path: Path, child_environment: dict[str, str]) -> None:
    """By default Python prints what the decoders log: dozens of lines."""
    path = tmp_path / "a.tif"
    whole = write(path, is_16bit=True)
    path.write_bytes(whole[:8] + b"\xff" + whole[9:40] + b"\xff" * 40 + whole[80:])
    code = (
        "import sys\nfrom opera_env.data.read import read_photo\n"
        "try:\n    read_photo(sys.argv[1])\nexcept Exception as error:\n    print(error)"
    )
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, env=child_environment, check=True)
    assert done.stdout.startswith(f"{path}: ") and done.stdout.count("\n") == 1
    assert done.stderr == ""


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.uint32, np.int32, np.int16])
def test_other_number_types_are_refused(tmp_path: Path, dtype: Any) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.ones((8, 8), dtype), photometric="minisblack")
    assert f"8 or 16 bits, found {np.dtype(dtype)}" in refusal(tmp_path / "a.tif")


def test_other_16_bit_colour_spaces_are_refused(tmp_path: Path) -> None:
    pixels = noise(8, 8, 4, np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="separated", metadata=None)
    assert "grey or RGB" in refusal(tmp_path / "a.tif")


@EVERY
def test_too_many_pixels_are_refused(
    tmp_path: Path, suffix: str, is_16bit: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / f"a{suffix}", is_16bit)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert "too many pixels" in refusal(tmp_path / f"a{suffix}")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4000)  # large, but not twice as large
    assert read_photo(tmp_path / f"a{suffix}").size == (64, 64)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError(), "does not fit into memory"),
        (ValueError("first\nsecond"), "cannot be read: first second"),
        (OSError(), "cannot be read: OSError"),
        (struct.error("unpack"), "cannot be read: unpack"),
    ],
)
def test_errors_of_decoders_are_reported_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    write(tmp_path / "a.bmp")

    def load(pil_image: Any) -> None:
        raise error

    monkeypatch.setattr(Image.Image, "load", load)
    assert refusal(tmp_path / "a.bmp") == message


def test_errors_while_an_image_is_open_name_its_path(tmp_path: Path) -> None:
    write(tmp_path / "a.png")
    with (
        pytest.raises(ImageFileError, match=r"a\.png: cannot be read: no"),
        open_image(tmp_path / "a.png"),
    ):
        raise RuntimeError("no")


def test_paths_may_be_strings(tmp_path: Path) -> None:
    write(tmp_path / "a.png")
    reader: Callable[..., Any] = read_photo
    assert np.array_equal(reader(str(tmp_path / "a.png")).pixels, noise(64, 64, 3))


def test_damaged_pixels_are_not_reported_as_damaged_exif(tmp_path: Path) -> None:
    """Pillow decodes a PNG file while it reads EXIF: the error is one of the pixels."""
    path = tmp_path / "image.png"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:60] + bytes(200) + whole[260:])
    with pytest.raises(ImageFileError, match="broken data"):
        read_photo(path)
