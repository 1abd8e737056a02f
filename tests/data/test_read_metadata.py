"""Reading metadata: orientation, EXIF, colour profiles, resolution, XMP."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms

from opera_env.data.pixels import apply_orientation
from opera_env.data.read import read_photo

Array = NDArray[Any]

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def noise(height: int, width: int, channels: int, dtype: Any = np.uint8, seed: int = 0) -> Array:
    values = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, (height, width, channels))
    return values.astype(dtype)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_apply_orientation_inverts_the_rotation_by_the_camera(
    orientation: int, stored_with_orientation: Any
) -> None:
    upright_image = noise(3, 5, 3)
    assert np.array_equal(
        apply_orientation(stored_with_orientation(upright_image, orientation), orientation), upright_image
    )
    assert np.array_equal(
        apply_orientation(stored_with_orientation(upright_image[..., 0], orientation), orientation),
        upright_image[..., 0],
    )
    assert apply_orientation(
        stored_with_orientation(upright_image, orientation), orientation
    ).flags.c_contiguous


@pytest.mark.parametrize("orientation", [0, 9, -1, 274])
def test_unknown_orientations_are_ignored(orientation: int) -> None:
    assert np.array_equal(apply_orientation(noise(3, 5, 3), orientation), noise(3, 5, 3))


def corner(dtype: Any = np.uint8) -> Array:
    """Returns a white image with a red corner at the top left."""
    upright_image = np.full((24, 40, 3), np.iinfo(dtype).max, dtype)
    upright_image[:8, :8, 1:] = 0
    return upright_image


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_the_orientation_is_applied_once(
    tmp_path: Path, suffix: str, stored_with_orientation: Any, subtests: pytest.Subtests
) -> None:
    for orientation in range(1, 9):
        with subtests.test(orientation=orientation):
            _check_orientation(tmp_path, suffix, orientation, stored_with_orientation)


def _check_orientation(tmp_path: Path, suffix: str, orientation: int, stored_with_orientation: Any) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.Make] = "Maker"
    stored = Image.fromarray(np.ascontiguousarray(stored_with_orientation(corner(), orientation)))
    exactly = {"webp": {"lossless": True, "exact": True}, "jpg": {"quality": 95}}
    stored.save(tmp_path / f"a.{suffix}", exif=exif, **exactly.get(suffix, {}))
    photo = read_photo(tmp_path / f"a.{suffix}")
    assert photo.pixels.shape == (24, 40, 3)
    assert np.abs(photo.pixels.astype(int) - corner()).max() <= (100 if suffix == "jpg" else 0)
    assert photo.exif is not None
    assert dict(photo.exif) == {ExifTags.Base.Make: "Maker"}
    assert photo.notices == ()


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_the_orientation_of_sixteen_bits_is_applied_once(
    tmp_path: Path,
    suffix: str,
    png_16bit: Callable[..., bytes],
    stored_with_orientation: Any,
    subtests: pytest.Subtests,
) -> None:
    for orientation in range(1, 9):
        with subtests.test(orientation=orientation):
            _check_deep_orientation(tmp_path, suffix, orientation, png_16bit, stored_with_orientation)


def _check_deep_orientation(
    tmp_path: Path,
    suffix: str,
    orientation: int,
    png_16bit: Callable[..., bytes],
    stored_with_orientation: Any,
) -> None:
    stored = np.ascontiguousarray(stored_with_orientation(corner(np.uint16), orientation))
    if suffix == "png":
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        (tmp_path / "a.png").write_bytes(png_16bit(stored, (b"eXIf", exif.tobytes()[6:])))
    else:
        tag = (ExifTags.Base.Orientation, "H", 1, orientation, True)
        tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", extratags=[tag], metadata=None)
    photo = read_photo(tmp_path / f"a.{suffix}")
    assert photo.pixels.dtype == np.uint16
    assert np.array_equal(photo.pixels, corner(np.uint16))
    assert photo.notices == ()


@pytest.mark.parametrize("suffix", ["jpg", "webp"])
def test_an_orientation_that_only_xmp_knows(
    tmp_path: Path, suffix: str, stored_with_orientation: Any
) -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6" a="b"/></x:xmpmeta>'
    stored = Image.fromarray(np.ascontiguousarray(stored_with_orientation(corner(), 6)))
    stored.save(tmp_path / f"a.{suffix}", xmp=xmp)
    photo = read_photo(tmp_path / f"a.{suffix}")
    assert photo.size == (24, 40)
    assert photo.pixels[2, 2, 1] < 60
    assert photo.xmp == xmp.replace(b'"6"', b'"1"')


# What the file says besides


def test_a_profile_resolution_and_xmp(tmp_path: Path) -> None:
    xmp = b"<rdf:Description><tiff:Orientation>8</tiff:Orientation></rdf:Description>"
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", icc_profile=SRGB, dpi=(300, 200), xmp=xmp)
    photo = read_photo(tmp_path / "a.jpg")
    assert photo.icc == SRGB
    assert photo.dpi == (300, 200)
    assert photo.xmp == xmp.replace(b"8", b"1")


@pytest.mark.parametrize("unit", ["inch", "centimeter", None])
def test_the_resolution_of_a_16_bit_tiff(tmp_path: Path, unit: str | None) -> None:
    resolution = None if unit is None else (100, 50)
    tifffile.imwrite(
        tmp_path / "a.tif", noise(4, 4, 1, np.uint16)[..., 0], resolution=resolution, resolutionunit=unit
    )
    dpi = read_photo(tmp_path / "a.tif").dpi
    assert dpi == {"inch": (100, 50), "centimeter": pytest.approx((254, 127)), None: None}[unit]


@pytest.mark.parametrize("dpi", [(0, 0), (100, 0)])
def test_a_resolution_of_zero_is_ignored(tmp_path: Path, dpi: tuple[int, int]) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", dpi=dpi)
    assert read_photo(tmp_path / "a.png").dpi is None


def exif_bytes(*entries: bytes, after: bytes = b"") -> bytes:
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(entries) + bytes(4) + after


ORIENTED = struct.pack("<HHIHH", 274, 3, 1, 6, 0)
BEYOND = struct.pack("<HHII", 271, 2, 40, 9999)
WORD = struct.pack("<HHI4s", 274, 2, 4, b"six\0")


@pytest.mark.parametrize(
    ("exif", "turns"),
    [
        (b"Exif\0\0nonsense nonsense", False),
        (b"Exif\0\0II*\0" + struct.pack("<I", 5000), False),
        (exif_bytes(ORIENTED)[:18], False),
        (exif_bytes(ORIENTED, BEYOND), True),
    ],
    ids=["nonsense", "elsewhere", "cut", "beyond the end"],
)
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_damaged_exif_is_left_out_with_a_notice(
    tmp_path: Path, suffix: str, exif: bytes, turns: bool
) -> None:
    Image.fromarray(corner()).save(tmp_path / f"a.{suffix}", exif=exif)
    photo = read_photo(tmp_path / f"a.{suffix}")
    assert photo.exif is None
    assert photo.size == ((40, 24) if turns else (24, 40))
    assert len(photo.notices) == 1
    assert "EXIF" in photo.notices[0] and "left out" in photo.notices[0]


def test_an_orientation_that_is_a_text_is_ignored(tmp_path: Path) -> None:
    Image.fromarray(corner()).save(tmp_path / "a.jpg", exif=exif_bytes(WORD))
    assert read_photo(tmp_path / "a.jpg").size == (24, 40)


def test_a_thumbnail_is_not_kept(tmp_path: Path) -> None:
    """It would show the photograph before the restoration."""
    thumbnail = b"\xff\xd8thumbnail\xff\xd9"
    make = struct.pack("<HHI4s", 271, 2, 4, b"abc\0")
    second = (
        struct.pack("<H", 2) + struct.pack("<HHII", 513, 4, 1, 56) + struct.pack("<HHII", 514, 4, 1, 13)
    )
    exif = (
        b"Exif\0\0II*\0"
        + struct.pack("<IH", 8, 1)
        + make
        + struct.pack("<I", 26)
        + second
        + bytes(4)
        + thumbnail
    )
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", exif=exif)
    with Image.open(tmp_path / "a.jpg") as pil_image:
        assert pil_image.getexif().get_ifd(ExifTags.IFD.IFD1), "the file has one"
    photo = read_photo(tmp_path / "a.jpg")
    assert photo.exif is not None
    assert dict(photo.exif) == {271: "abc"}
    assert thumbnail not in photo.exif.tobytes()
    assert photo.exif.get_ifd(ExifTags.IFD.IFD1) == {}


def test_the_size_in_exif_is_not_kept(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.ImageWidth], exif[ExifTags.Base.ImageLength] = 4000, 3000
    exif[ExifTags.Base.Model] = "Phone"
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", exif=exif)
    read_exif = read_photo(tmp_path / "a.jpg").exif
    assert read_exif is not None
    assert dict(read_exif) == {ExifTags.Base.Model: "Phone"}


@pytest.mark.parametrize("lossless", [False, True])
@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("has_profile", [False, True])
def test_lossless_webp_is_recognised(
    tmp_path: Path, lossless: bool, alpha: bool, has_profile: bool
) -> None:
    """Also after a long profile that contains the names of chunks."""
    options = {"icc_profile": SRGB + b"VP8 VP8L" * 20_001} if has_profile else {}
    pixels = noise(20, 20, 4 if alpha else 3)
    Image.fromarray(pixels).save(tmp_path / "a.webp", lossless=lossless, **options)
    assert read_photo(tmp_path / "a.webp").lossless == lossless


# What is refused
