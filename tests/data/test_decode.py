"""Photographs of every kind that people have: read whole, upright and as deep as stored, or refused."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms

from opera_env.data.decode import open_picture, read_photo, upright
from opera_env.data.photo import FORMATS
from opera_env.errors import ImageFileError

Array = NDArray[Any]

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def noise(height: int, width: int, channels: int, dtype: Any = np.uint8, seed: int = 0) -> Array:
    values = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, (height, width, channels))
    return values.astype(dtype)


def png(pixels: Array, *extra: tuple[bytes, bytes]) -> bytes:
    """A 16-bit PNG file, written by hand as neither Pillow nor OpenCV writes them all."""
    height, width, channels = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    chunks = [(b"IHDR", header), *extra, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def assert_read(path: Path, colours: Array, alpha: Array | None = None, notices: int = 0) -> None:
    photo = read_photo(path)
    assert photo.pixels.dtype == colours.dtype
    assert np.array_equal(photo.pixels, colours)
    assert (photo.alpha is None) == (alpha is None)
    if alpha is not None and photo.alpha is not None:
        assert photo.alpha.dtype == colours.dtype
        assert np.array_equal(photo.alpha, alpha)
    assert len(photo.notices) == notices, photo.notices
    assert photo.xmp is None


LOSSLESS = {
    "png": {},
    "tif": {"compression": "tiff_lzw"},
    "bmp": {},
    "webp": {"lossless": True, "exact": True},
}


@pytest.mark.parametrize("size", [(13, 17), (1, 9), (9, 1), (1, 1)])
@pytest.mark.parametrize(
    ("suffix", "mode"),
    [
        *(("png", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA")),
        *(("tif", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA")),
        *(("bmp", mode) for mode in ("1", "L", "P", "RGB", "RGBA")),
        *(("webp", mode) for mode in ("RGB", "RGBA")),
    ],
)
def test_eight_bits(tmp_path: Path, suffix: str, mode: str, size: tuple[int, int]) -> None:
    picture = Image.fromarray(noise(*size, 4)).convert("RGB" if mode == "P" else mode)
    if mode == "P":
        picture = picture.quantize(256)
    path = tmp_path / f"a.{suffix}"
    picture.save(path, **({} if mode == "1" else LOSSLESS[suffix]))
    stored = np.atleast_3d(np.asarray(picture.convert({"1": "L", "P": "RGB"}.get(mode, mode))))
    if (suffix, mode) == ("bmp", "RGBA"):
        stored = stored[..., :3]  # Pillow's header calls the fourth byte unused
    alpha = stored[..., -1] if stored.shape[2] in (2, 4) else None
    assert_read(path, stored if alpha is None else stored[..., :-1], alpha, notices=int(mode == "P"))
    photo = read_photo(path)
    assert photo.format == {"tif": "TIFF"}.get(suffix, suffix.upper())
    assert photo.size == size
    assert photo.lossless == (suffix == "webp")


@pytest.mark.parametrize("size", [(13, 17), (1, 9), (9, 1), (1, 1)])
@pytest.mark.parametrize("suffix", ["jpg", "webp"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_lossy(tmp_path: Path, suffix: str, mode: str, size: tuple[int, int]) -> None:
    picture = Image.new("RGB", size[::-1], (200, 100, 50)).convert(mode)
    picture.save(tmp_path / f"a.{suffix}", quality=95)
    photo = read_photo(tmp_path / f"a.{suffix}")
    assert photo.pixels.shape == (*size, 1 if (suffix, mode) == ("jpg", "L") else 3)
    assert np.abs(photo.pixels.astype(int) - np.atleast_3d(np.asarray(picture))).max() <= 4
    assert not photo.lossless
    assert photo.notices == ()


@pytest.mark.parametrize("size", [(13, 17), (1, 9), (9, 1), (1, 1)])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_sixteen_bit_png(tmp_path: Path, channels: int, size: tuple[int, int]) -> None:
    pixels = noise(*size, channels, np.uint16)
    (tmp_path / "a.png").write_bytes(png(pixels))
    alpha = pixels[..., -1] if channels in (2, 4) else None
    assert_read(tmp_path / "a.png", pixels if alpha is None else pixels[..., :-1], alpha)


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bit_png_with_a_transparent_colour(tmp_path: Path, channels: int) -> None:
    pixels = noise(4, 5, channels, np.uint16)
    colour = b"".join(int(value).to_bytes(2, "big") for value in pixels[2, 3])
    (tmp_path / "a.png").write_bytes(png(pixels, (b"tRNS", colour)))
    alpha = np.full((4, 5), 65535, np.uint16)
    alpha[2, 3] = 0
    assert_read(tmp_path / "a.png", pixels, alpha)


@pytest.mark.parametrize("mode", ["1", "L", "RGB"])
def test_a_transparent_colour(tmp_path: Path, mode: str) -> None:
    pixels = np.array([[(0, 0, 0), (255, 255, 255), (255, 255, 255)]], np.uint8)
    picture = Image.fromarray(pixels).convert(mode)
    picture.save(tmp_path / "a.png", transparency=(0, 0, 0) if mode == "RGB" else 0)
    expected = pixels if mode == "RGB" else pixels[..., :1]
    assert_read(tmp_path / "a.png", expected, np.array([[0, 255, 255]], np.uint8))


@pytest.mark.parametrize("transparency", [1, bytes([0, 128, 255, 255])])
def test_a_transparent_palette(tmp_path: Path, transparency: int | bytes) -> None:
    pixels = noise(2, 2, 3)
    picture = Image.fromarray(pixels).quantize(4)
    picture.save(tmp_path / "a.png", transparency=transparency)
    levels = [255, 0, 255, 255] if transparency == 1 else [0, 128, 255, 255]
    alpha = np.array(levels, np.uint8)[np.asarray(picture)]
    assert_read(tmp_path / "a.png", pixels, alpha, notices=1)


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "lzw", "zlib"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_sixteen_bit_tiff(
    tmp_path: Path, channels: int, planar: str, compression: str | None, byteorder: Any
) -> None:
    pixels = noise(13, 17, channels, np.uint16)
    stored = pixels if channels > 1 else pixels[..., 0]
    options: dict[str, Any] = {"planarconfig": planar} if channels > 1 else {}
    if channels in (2, 4):
        options["extrasamples"] = ["unassalpha"]
    tifffile.imwrite(
        tmp_path / "a.tif",
        np.moveaxis(stored, -1, 0) if planar == "separate" and channels > 1 else stored,
        byteorder=byteorder,
        photometric="minisblack" if channels < 3 else "rgb",
        compression=compression,
        predictor=compression is not None,
        rowsperstrip=5,
        metadata=None,
        **options,
    )
    alpha = pixels[..., -1] if channels in (2, 4) else None
    assert_read(tmp_path / "a.tif", pixels if alpha is None else pixels[..., :-1], alpha)


@pytest.mark.parametrize("size", [(1, 9), (9, 1), (1, 1), (3, 2)])
@pytest.mark.parametrize("channels", [1, 3])
def test_narrow_sixteen_bit_tiff(tmp_path: Path, channels: int, size: tuple[int, int]) -> None:
    pixels = noise(*size, channels, np.uint16)
    stored = pixels if channels == 3 else pixels[..., 0]
    photometric = "rgb" if channels == 3 else "minisblack"
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric=photometric, metadata=None)
    assert_read(tmp_path / "a.tif", pixels)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiff_in_which_white_is_zero(tmp_path: Path, dtype: Any) -> None:
    pixels = noise(5, 6, 1, dtype)
    inverted = np.iinfo(dtype).max - pixels[..., 0]
    tifffile.imwrite(tmp_path / "a.tif", inverted, photometric="miniswhite", metadata=None)
    assert_read(tmp_path / "a.tif", pixels)


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_tiff_of_few_more_bits_keeps_its_brightness(tmp_path: Path, bits: int) -> None:
    top = 2**bits - 1
    levels = np.array([[0, 1, top // 2, top]])
    packed = "".join(f"{level:0{bits}b}" for level in levels.ravel())
    packed += "0" * (-len(packed) % 8)
    data = int(packed, 2).to_bytes(len(packed) // 8, "big")
    entries = [
        (256, 4),
        (257, 1),
        (258, bits),
        (259, 1),
        (262, 1),
        (273, 8),
        (277, 1),
        (278, 1),
        (279, len(data)),
    ]
    data += b"\0" * (len(data) % 2)
    head = b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(entries))
    body = b"".join(struct.pack("<HHII", tag, 4 if tag == 273 else 3, 1, value) for tag, value in entries)
    (tmp_path / "a.tif").write_bytes(head + body + bytes(4))
    pixels = read_photo(tmp_path / "a.tif").pixels
    assert np.abs(pixels[..., 0] - levels * 65535 / top).max() <= 0.5


def test_tiff_of_colours_that_are_multiplied_by_alpha(tmp_path: Path) -> None:
    pixels = np.array([[(1000, 2000, 3000, 32768), (65535, 0, 9, 65535), (0, 0, 0, 0)]], np.uint16)
    tifffile.imwrite(
        tmp_path / "a.tif", pixels, photometric="rgb", extrasamples=["assocalpha"], metadata=None
    )
    photo = read_photo(tmp_path / "a.tif")
    assert photo.alpha is not None
    assert photo.alpha.tolist() == [[32768, 65535, 0]]
    assert np.abs(photo.pixels[0, 0] - np.array([2000, 4000, 6000])).max() <= 1
    assert photo.pixels[0, 1:].tolist() == [[65535, 0, 9], [0, 0, 0]]


def test_tiff_channels_that_mean_nothing_known(tmp_path: Path) -> None:
    pixels = noise(4, 5, 4, np.uint16)
    tifffile.imwrite(
        tmp_path / "a.tif", pixels, photometric="rgb", extrasamples=["unspecified"], metadata=None
    )
    assert_read(tmp_path / "a.tif", pixels[..., :3], notices=1)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_big_tiff(tmp_path: Path, dtype: Any) -> None:
    pixels = noise(4, 5, 3, dtype)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", bigtiff=True, metadata=None)
    assert_read(tmp_path / "a.tif", pixels)


def cmyk_profile() -> bytes:
    """The least that is a CMYK profile: two grid points a side, and every ink but black is blue."""
    white, blue, black = [255, 128, 128], [82, 207, 20], [0, 128, 128]
    grid = [black if inks % 2 else blue if inks else white for inks in range(16)]
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0])
    table += struct.pack(">9i", *(65536 * (place % 4 == 0) for place in range(9)))
    table += bytes(range(256)) * 4 + np.array(grid, np.uint8).tobytes() + bytes(range(256)) * 3
    table += bytes(-len(table) % 4)
    tags = b"A2B0" + struct.pack(">II", 144, len(table))
    head = struct.pack(">I4sI4s4s4s", 144 + len(table), b"lcms", 0x02400000, b"prtr", b"CMYK", b"Lab ")
    head += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + struct.pack(">I", 1) + tags + table


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
@pytest.mark.parametrize("profile", ["none", "good", "broken"])
def test_cmyk_becomes_srgb(tmp_path: Path, suffix: str, profile: str) -> None:
    icc = {"none": None, "good": cmyk_profile(), "broken": b"nonsense"}[profile]
    picture = Image.new("CMYK", (8, 6), (0, 255, 255, 0))
    picture.save(tmp_path / f"a.{suffix}", icc_profile=icc)
    photo = read_photo(tmp_path / f"a.{suffix}")
    assert photo.pixels.shape == (6, 8, 3)
    assert photo.icc is not None
    now = ImageCms.ImageCmsProfile(BytesIO(photo.icc))
    assert "sRGB" in ImageCms.getProfileDescription(now)
    assert photo.notices[0] == "CMYK colours became sRGB"
    assert len(photo.notices) == (2 if profile == "broken" else 1)
    red, _, blue = photo.pixels[3, 4].astype(int)
    assert (blue > red + 100) if profile == "good" else (red > blue + 100)


def test_lab_becomes_srgb(tmp_path: Path) -> None:
    Image.new("LAB", (4, 4), (138, 208, 195)).save(tmp_path / "a.tif")
    photo = read_photo(tmp_path / "a.tif")
    red, green, blue = photo.pixels[2, 2].astype(int)
    assert red > 200 and max(green, blue) < 80
    assert photo.notices == ("LAB colours became sRGB",)


def test_a_broken_profile_of_rgb_is_kept_as_it_is(tmp_path: Path) -> None:
    Image.fromarray(noise(4, 4, 3)).save(tmp_path / "a.png", icc_profile=b"nonsense")
    assert read_photo(tmp_path / "a.png").icc == b"nonsense"


@pytest.mark.parametrize(
    ("name", "kind"), [("a.jpg", "MPO"), ("a.png", "PNG"), ("a.webp", "WEBP"), ("a.tif", "TIFF")]
)
def test_of_several_pictures_the_first_is_taken(tmp_path: Path, name: str, kind: str) -> None:
    red, *others = (Image.new("RGB", (16, 8), colour) for colour in ("red", "lime", "blue"))
    options = {"lossless": True} if kind == "WEBP" else {}
    red.save(tmp_path / name, kind, save_all=True, append_images=others, **options)
    photo = read_photo(tmp_path / name)
    assert photo.format == {"MPO": "JPEG"}.get(kind, kind)
    assert photo.pixels.shape == (8, 16, 3)
    assert np.abs(photo.pixels.astype(int) - (255, 0, 0)).max() <= 2
    assert photo.notices == ("only the first of its 3 pictures is taken",)
    assert photo.lossless == (kind == "WEBP")


def test_of_several_deep_pictures_the_first_is_taken(tmp_path: Path) -> None:
    pixels = noise(4, 5, 3, np.uint16)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for number in range(2):
            file.write(pixels + np.uint16(number), photometric="rgb", metadata=None)
    assert_read(tmp_path / "a.tif", pixels, notices=1)


# Orientation


def turned(seen: Array, orientation: int) -> Array:
    """How a camera that notes this orientation stores what was seen, as the standard words it."""
    return {
        1: seen,
        2: seen[:, ::-1],
        3: seen[::-1, ::-1],
        4: seen[::-1],
        5: np.swapaxes(seen, 0, 1),
        6: np.rot90(seen, 1),
        7: np.swapaxes(seen, 0, 1)[::-1, ::-1],
        8: np.rot90(seen, -1),
    }[orientation]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright_undoes_what_the_camera_did(orientation: int) -> None:
    seen = noise(3, 5, 3)
    assert np.array_equal(upright(turned(seen, orientation), orientation), seen)
    assert np.array_equal(upright(turned(seen[..., 0], orientation), orientation), seen[..., 0])
    assert upright(turned(seen, orientation), orientation).flags.c_contiguous


@pytest.mark.parametrize("orientation", [0, 9, -1, 274])
def test_no_orientation(orientation: int) -> None:
    assert np.array_equal(upright(noise(3, 5, 3), orientation), noise(3, 5, 3))


def corner(dtype: Any = np.uint8) -> Array:
    """White with a red corner at the top left."""
    seen = np.full((24, 40, 3), np.iinfo(dtype).max, dtype)
    seen[:8, :8, 1:] = 0
    return seen


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_the_orientation_is_applied_once(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.Make] = "Maker"
    stored = Image.fromarray(np.ascontiguousarray(turned(corner(), orientation)))
    stored.save(tmp_path / f"a.{suffix}", exif=exif, **LOSSLESS.get(suffix, {"quality": 95}))
    photo = read_photo(tmp_path / f"a.{suffix}")
    assert photo.pixels.shape == (24, 40, 3)
    assert np.abs(photo.pixels.astype(int) - corner()).max() <= (100 if suffix == "jpg" else 0)
    assert photo.exif is not None
    assert dict(photo.exif) == {ExifTags.Base.Make: "Maker"}
    assert photo.notices == ()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_the_orientation_of_sixteen_bits_is_applied_once(
    tmp_path: Path, suffix: str, orientation: int
) -> None:
    stored = np.ascontiguousarray(turned(corner(np.uint16), orientation))
    if suffix == "png":
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        (tmp_path / "a.png").write_bytes(png(stored, (b"eXIf", exif.tobytes()[6:])))
    else:
        tag = (ExifTags.Base.Orientation, "H", 1, orientation, True)
        tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", extratags=[tag], metadata=None)
    assert_read(tmp_path / f"a.{suffix}", corner(np.uint16))


@pytest.mark.parametrize("suffix", ["jpg", "webp"])
def test_an_orientation_that_only_xmp_knows(tmp_path: Path, suffix: str) -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6" a="b"/></x:xmpmeta>'
    stored = Image.fromarray(np.ascontiguousarray(turned(corner(), 6)))
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
def test_the_resolution_of_a_deep_tiff(tmp_path: Path, unit: str | None) -> None:
    resolution = None if unit is None else (100, 50)
    tifffile.imwrite(
        tmp_path / "a.tif", noise(4, 4, 1, np.uint16)[..., 0], resolution=resolution, resolutionunit=unit
    )
    dpi = read_photo(tmp_path / "a.tif").dpi
    assert dpi == {"inch": (100, 50), "centimeter": pytest.approx((254, 127)), None: None}[unit]


@pytest.mark.parametrize("dpi", [(0, 0), (100, 0)])
def test_a_resolution_of_nothing_is_none(tmp_path: Path, dpi: tuple[int, int]) -> None:
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
def test_damaged_exif_is_left_out_and_told(tmp_path: Path, suffix: str, exif: bytes, turns: bool) -> None:
    Image.fromarray(corner()).save(tmp_path / f"a.{suffix}", exif=exif)
    photo = read_photo(tmp_path / f"a.{suffix}")
    assert photo.exif is None
    assert photo.size == ((40, 24) if turns else (24, 40))
    assert len(photo.notices) == 1
    assert "EXIF" in photo.notices[0] and "left out" in photo.notices[0]


def test_an_orientation_in_words_is_none(tmp_path: Path) -> None:
    Image.fromarray(corner()).save(tmp_path / "a.jpg", exif=exif_bytes(WORD))
    assert read_photo(tmp_path / "a.jpg").size == (24, 40)


def test_a_thumbnail_is_not_kept(tmp_path: Path) -> None:
    """It would show the photograph as it was before."""
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
    with Image.open(tmp_path / "a.jpg") as picture:
        assert picture.getexif().get_ifd(ExifTags.IFD.IFD1), "the file has one"
    photo = read_photo(tmp_path / "a.jpg")
    assert photo.exif is not None
    assert dict(photo.exif) == {271: "abc"}
    assert thumbnail not in photo.exif.tobytes()
    assert photo.exif.get_ifd(ExifTags.IFD.IFD1) == {}


def test_what_a_camera_says_of_the_size_in_its_file_is_not_kept(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.ImageWidth], exif[ExifTags.Base.ImageLength] = 4000, 3000
    exif[ExifTags.Base.Model] = "Phone"
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", exif=exif)
    kept = read_photo(tmp_path / "a.jpg").exif
    assert kept is not None
    assert dict(kept) == {ExifTags.Base.Model: "Phone"}


@pytest.mark.parametrize("lossless", [False, True])
@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("said", [False, True])
def test_webp_knows_how_it_was_stored(tmp_path: Path, lossless: bool, alpha: bool, said: bool) -> None:
    """Behind a profile of any length, too, and whatever its bytes spell."""
    options = {"icc_profile": SRGB + b"VP8 VP8L" * 20_001} if said else {}
    pixels = noise(20, 20, 4 if alpha else 3)
    Image.fromarray(pixels).save(tmp_path / "a.webp", lossless=lossless, **options)
    assert read_photo(tmp_path / "a.webp").lossless == lossless


# What is refused


def refusal(path: Path) -> str:
    with pytest.raises(ImageFileError) as caught:
        read_photo(path)
    assert caught.value.path == path
    said = str(caught.value)
    assert said.startswith(f"{path}: ")
    assert "\n" not in said
    return said.removeprefix(f"{path}: ")


def test_absent_folder_and_empty_are_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "absent.png") == "no such file"
    (tmp_path / "folder.png").mkdir()
    assert "folder" in refusal(tmp_path / "folder.png").removeprefix("folder.png")
    (tmp_path / "empty.png").touch()
    assert "empty" in refusal(tmp_path / "empty.png")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    said: list[str] = []
    thread = threading.Thread(target=lambda: said.append(refusal(tmp_path / "pipe.png")), daemon=True)
    thread.start()
    thread.join(10)
    assert said == ["not a regular file"]


@pytest.mark.parametrize("suffix", [suffix for known in FORMATS.values() for suffix in known.suffixes])
def test_text_is_refused(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"a{suffix}").write_text("Dear Sir or Madam,\nno image is enclosed.\n" * 50)
    assert refusal(tmp_path / f"a{suffix}") == "damaged, or not PNG, JPEG, TIFF, WEBP, BMP"


@pytest.mark.parametrize("kind", ["GIF", "PPM", "ICO"])
def test_other_formats_are_refused(tmp_path: Path, kind: str) -> None:
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png", kind)
    assert refusal(tmp_path / "a.png") == "damaged, or not PNG, JPEG, TIFF, WEBP, BMP"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("content", ["PNG", "JPEG", "TIFF", "WEBP", "BMP"])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp", ".bmp", ".txt", ""])
def test_a_name_that_promises_another_format_is_refused(
    tmp_path: Path, suffix: str, content: str, dtype: Any
) -> None:
    right = FORMATS[content].suffixes[0]
    path = tmp_path / f"holiday{suffix}"
    if content == "TIFF":
        tifffile.imwrite(path, noise(8, 8, 3, dtype), photometric="rgb")
    else:
        Image.new("RGB", (8, 8)).save(path, content)
    if suffix == right:
        assert read_photo(path).format == content
    else:
        assert f"content is {content}: rename it to holiday{right}" in refusal(path)


def write(path: Path, deep: bool = False) -> bytes:
    if path.suffix == ".png" and deep:
        path.write_bytes(png(noise(64, 64, 3, np.uint16)))
    elif deep:
        pixels = noise(64, 64, 3, np.uint16)
        tifffile.imwrite(path, pixels, photometric="rgb", compression="zlib", rowsperstrip=8)
    else:
        Image.fromarray(noise(64, 64, 3)).save(path)
    return path.read_bytes()


EVERY = pytest.mark.parametrize(
    ("suffix", "deep"),
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
@pytest.mark.parametrize("part", [0.02, 0.3, 0.6, 0.9])
def test_cut_short_is_refused(tmp_path: Path, suffix: str, deep: bool, part: float) -> None:
    path = tmp_path / f"a{suffix}"
    whole = write(path, deep)
    path.write_bytes(whole[: int(part * len(whole))])
    refusal(path)


@pytest.mark.parametrize("part", [0.5, 0.95])
def test_a_plain_deep_tiff_cut_short_is_refused(tmp_path: Path, part: float) -> None:
    tifffile.imwrite(tmp_path / "a.tif", noise(64, 64, 3, np.uint16), photometric="rgb")
    whole = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(whole[: int(part * len(whole))])
    refusal(tmp_path / "a.tif")


@EVERY
def test_damage_anywhere_is_an_error_of_ours_or_a_photograph(
    tmp_path: Path, suffix: str, deep: bool
) -> None:
    path = tmp_path / f"a{suffix}"
    whole = write(path, deep)
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


def test_a_deep_tiff_that_lacks_parts_is_refused(tmp_path: Path) -> None:
    """They would be black, and tifffile only logs it."""
    path = tmp_path / "a.tif"
    whole = write(path, deep=True)
    with tifffile.TiffFile(path) as file:
        page: Any = file.pages[0]
        entry = page.tags["StripByteCounts"].offset
    for kind, count in ((99, 8), (4, 1), (3, 4)):
        path.write_bytes(whole[: entry + 2] + struct.pack("<HI", kind, count) + whole[entry + 8 :])
        refusal(path)


def test_nothing_else_is_said_of_a_damaged_file(tmp_path: Path, child_environment: dict[str, str]) -> None:
    """By default Python prints what the decoders log: dozens of lines."""
    path = tmp_path / "a.tif"
    whole = write(path, deep=True)
    path.write_bytes(whole[:8] + b"\xff" + whole[9:40] + b"\xff" * 40 + whole[80:])
    code = (
        "import sys\nfrom opera_env.data.decode import read_photo\n"
        "try:\n    read_photo(sys.argv[1])\nexcept Exception as error:\n    print(error)"
    )
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, env=child_environment, check=True)
    assert done.stdout.startswith(f"{path}: ") and done.stdout.count("\n") == 1
    assert done.stderr == ""


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.uint32, np.int32, np.int16])
def test_other_numbers_are_refused(tmp_path: Path, dtype: Any) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.ones((8, 8), dtype), photometric="minisblack")
    assert f"8 or 16 bits, found {np.dtype(dtype)}" in refusal(tmp_path / "a.tif")


def test_other_deep_colours_are_refused(tmp_path: Path) -> None:
    pixels = noise(8, 8, 4, np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="separated", metadata=None)
    assert "grey or RGB" in refusal(tmp_path / "a.tif")


@EVERY
def test_too_many_pixels_are_refused(
    tmp_path: Path, suffix: str, deep: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / f"a{suffix}", deep)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert "too many pixels" in refusal(tmp_path / f"a{suffix}")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4000)  # large, but not twice as large
    assert read_photo(tmp_path / f"a{suffix}").size == (64, 64)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "does not fit into memory"),
        (ValueError("first\nsecond"), "cannot be read: first second"),
        (OSError(), "cannot be read: OSError"),
        (struct.error("unpack"), "cannot be read: unpack"),
    ],
)
def test_whatever_decoders_raise_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    write(tmp_path / "a.bmp")

    def load(picture: Any) -> None:
        raise error

    monkeypatch.setattr(Image.Image, "load", load)
    assert refusal(tmp_path / "a.bmp") == said


def test_what_goes_wrong_while_a_picture_is_open_is_told(tmp_path: Path) -> None:
    write(tmp_path / "a.png")
    with (
        pytest.raises(ImageFileError, match=r"a\.png: cannot be read: no"),
        open_picture(tmp_path / "a.png"),
    ):
        raise RuntimeError("no")


def test_photographs_are_read_from_names_too(tmp_path: Path) -> None:
    write(tmp_path / "a.png")
    reader: Callable[..., Any] = read_photo
    assert np.array_equal(reader(str(tmp_path / "a.png")).pixels, noise(64, 64, 3))


def test_a_hole_in_the_pixels_is_no_matter_of_exif(tmp_path: Path) -> None:
    """Pillow decodes a PNG file while it looks for EXIF: what fails there is the picture."""
    path = tmp_path / "image.png"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:60] + bytes(200) + whole[260:])
    with pytest.raises(ImageFileError, match="broken data"):
        read_photo(path)
