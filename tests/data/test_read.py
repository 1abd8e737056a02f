"""Reading photographs of all kinds: all pixels, upright, with the stored bit depth."""

from __future__ import annotations

import struct
from collections.abc import Callable
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageCms

from opera_env.data.photo import format_from_name
from opera_env.data.read import read_format, read_photo, read_size

Array = NDArray[Any]
Encode = Callable[..., bytes]

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def noise(height: int, width: int, channels: int, dtype: Any = np.uint8, seed: int = 0) -> Array:
    values = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, (height, width, channels))
    return values.astype(dtype)


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


SIZES = ((13, 17), (1, 9), (9, 1), (1, 1))

LOSSLESS = {
    "png": {},
    "tif": {"compression": "tiff_lzw"},
    "bmp": {},
    "webp": {"lossless": True, "exact": True},
}


@pytest.mark.parametrize(
    ("suffix", "mode"),
    [
        *(("png", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA")),
        *(("tif", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA")),
        *(("bmp", mode) for mode in ("1", "L", "P", "RGB", "RGBA")),
        *(("webp", mode) for mode in ("RGB", "RGBA")),
    ],
)
def test_eight_bit_files(tmp_path: Path, suffix: str, mode: str, subtests: pytest.Subtests) -> None:
    for size in SIZES:
        with subtests.test(size=size):
            _check_eight_bits(tmp_path, suffix, mode, size)


def _check_eight_bits(tmp_path: Path, suffix: str, mode: str, size: tuple[int, int]) -> None:
    pil_image = Image.fromarray(noise(*size, 4)).convert("RGB" if mode == "P" else mode)
    if mode == "P":
        pil_image = pil_image.quantize(256)
    path = tmp_path / f"a.{suffix}"
    pil_image.save(path, **({} if mode == "1" else LOSSLESS[suffix]))
    stored = np.atleast_3d(np.asarray(pil_image.convert({"1": "L", "P": "RGB"}.get(mode, mode))))
    if (suffix, mode) == ("bmp", "RGBA"):
        stored = stored[..., :3]  # Pillow's header calls the fourth byte unused
    alpha = stored[..., -1] if stored.shape[2] in (2, 4) else None
    assert_read(path, stored if alpha is None else stored[..., :-1], alpha, notices=int(mode == "P"))
    photo = read_photo(path)
    assert photo.format == {"tif": "TIFF"}.get(suffix, suffix.upper())
    assert photo.size == size
    assert photo.lossless == (suffix == "webp")


@pytest.mark.parametrize("suffix", ["jpg", "webp"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_lossy_files(tmp_path: Path, suffix: str, mode: str, subtests: pytest.Subtests) -> None:
    for size in SIZES:
        with subtests.test(size=size):
            pil_image = Image.new("RGB", size[::-1], (200, 100, 50)).convert(mode)
            pil_image.save(tmp_path / f"a.{suffix}", quality=95)
            photo = read_photo(tmp_path / f"a.{suffix}")
            assert photo.pixels.shape == (*size, 1 if (suffix, mode) == ("jpg", "L") else 3)
            assert np.abs(photo.pixels.astype(int) - np.atleast_3d(np.asarray(pil_image))).max() <= 4
            assert not photo.lossless
            assert photo.notices == ()


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_sixteen_bit_png(
    tmp_path: Path, channels: int, png_16bit: Encode, subtests: pytest.Subtests
) -> None:
    for size in SIZES:
        with subtests.test(size=size):
            pixels = noise(*size, channels, np.uint16)
            (tmp_path / "a.png").write_bytes(png_16bit(pixels))
            alpha = pixels[..., -1] if channels in (2, 4) else None
            assert_read(tmp_path / "a.png", pixels if alpha is None else pixels[..., :-1], alpha)


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bit_png_with_a_transparent_colour(
    tmp_path: Path, channels: int, png_16bit: Encode
) -> None:
    pixels = noise(4, 5, channels, np.uint16)
    colour = b"".join(int(value).to_bytes(2, "big") for value in pixels[2, 3])
    (tmp_path / "a.png").write_bytes(png_16bit(pixels, (b"tRNS", colour)))
    alpha = np.full((4, 5), 65535, np.uint16)
    alpha[2, 3] = 0
    assert_read(tmp_path / "a.png", pixels, alpha)


@pytest.mark.parametrize("mode", ["1", "L", "RGB"])
def test_a_transparent_colour(tmp_path: Path, mode: str) -> None:
    pixels = np.array([[(0, 0, 0), (255, 255, 255), (255, 255, 255)]], np.uint8)
    pil_image = Image.fromarray(pixels).convert(mode)
    pil_image.save(tmp_path / "a.png", transparency=(0, 0, 0) if mode == "RGB" else 0)
    expected = pixels if mode == "RGB" else pixels[..., :1]
    assert_read(tmp_path / "a.png", expected, np.array([[0, 255, 255]], np.uint8))


@pytest.mark.parametrize("transparency", [1, bytes([0, 128, 255, 255])])
def test_a_transparent_palette(tmp_path: Path, transparency: int | bytes) -> None:
    pixels = noise(2, 2, 3)
    pil_image = Image.fromarray(pixels).quantize(4)
    pil_image.save(tmp_path / "a.png", transparency=transparency)
    levels = [255, 0, 255, 255] if transparency == 1 else [0, 128, 255, 255]
    alpha = np.array(levels, np.uint8)[np.asarray(pil_image)]
    assert_read(tmp_path / "a.png", pixels, alpha, notices=1)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_sixteen_bit_tiff(tmp_path: Path, channels: int, subtests: pytest.Subtests) -> None:
    cases = product(("contig", "separate"), (None, "lzw", "zlib"), ("<", ">"))
    for planar, compression, byteorder in cases:
        with subtests.test(planar=planar, compression=compression, byteorder=byteorder):
            _check_sixteen_bit_tiff(tmp_path, channels, planar, compression, byteorder)


def _check_sixteen_bit_tiff(
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


@pytest.mark.parametrize("channels", [1, 3])
def test_narrow_sixteen_bit_tiff(tmp_path: Path, channels: int, subtests: pytest.Subtests) -> None:
    photometric = "rgb" if channels == 3 else "minisblack"
    for size in ((1, 9), (9, 1), (1, 1), (3, 2)):
        with subtests.test(size=size):
            pixels = noise(*size, channels, np.uint16)
            stored = pixels if channels == 3 else pixels[..., 0]
            tifffile.imwrite(tmp_path / "a.tif", stored, photometric=photometric, metadata=None)
            assert_read(tmp_path / "a.tif", pixels)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiff_in_which_white_is_zero(tmp_path: Path, dtype: Any) -> None:
    pixels = noise(5, 6, 1, dtype)
    inverted = np.iinfo(dtype).max - pixels[..., 0]
    tifffile.imwrite(tmp_path / "a.tif", inverted, photometric="miniswhite", metadata=None)
    assert_read(tmp_path / "a.tif", pixels)


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_tiff_of_9_to_15_bits_keeps_its_brightness(tmp_path: Path, bits: int) -> None:
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


def test_unknown_channels_of_a_tiff_are_left_out(tmp_path: Path) -> None:
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
    """Returns a minimal CMYK profile: two grid points a side, and every ink but black is blue."""
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
    pil_image = Image.new("CMYK", (8, 6), (0, 255, 255, 0))
    pil_image.save(tmp_path / f"a.{suffix}", icc_profile=icc)
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


def test_a_broken_profile_of_rgb_is_kept_unchanged(tmp_path: Path) -> None:
    Image.fromarray(noise(4, 4, 3)).save(tmp_path / "a.png", icc_profile=b"nonsense")
    assert read_photo(tmp_path / "a.png").icc == b"nonsense"


@pytest.mark.parametrize(
    ("name", "kind"), [("a.jpg", "MPO"), ("a.png", "PNG"), ("a.webp", "WEBP"), ("a.tif", "TIFF")]
)
def test_the_first_of_several_images_is_read(tmp_path: Path, name: str, kind: str) -> None:
    red, *others = (Image.new("RGB", (16, 8), colour) for colour in ("red", "lime", "blue"))
    options = {"lossless": True} if kind == "WEBP" else {}
    red.save(tmp_path / name, kind, save_all=True, append_images=others, **options)
    photo = read_photo(tmp_path / name)
    assert photo.format == {"MPO": "JPEG"}.get(kind, kind)
    assert photo.pixels.shape == (8, 16, 3)
    assert np.abs(photo.pixels.astype(int) - (255, 0, 0)).max() <= 2
    assert photo.notices == ("only the first of its 3 images is read",)
    assert photo.lossless == (kind == "WEBP")


def test_the_first_of_several_16_bit_images_is_read(tmp_path: Path) -> None:
    pixels = noise(4, 5, 3, np.uint16)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for number in range(2):
            file.write(pixels + np.uint16(number), photometric="rgb", metadata=None)
    assert_read(tmp_path / "a.tif", pixels, notices=1)


# Orientation


# Names that say another format than the content


@pytest.mark.parametrize(
    ("content", "dtype"),
    [
        *((content, np.uint8) for content in ("PNG", "JPEG", "TIFF", "WEBP", "BMP")),
        *((content, np.uint16) for content in ("PNG", "TIFF")),
    ],
)
def test_the_content_decides_the_format_and_the_name_is_a_hint(
    tmp_path: Path, png_16bit: Encode, content: str, dtype: Any, subtests: pytest.Subtests
) -> None:
    pixels = noise(8, 9, 3, dtype)
    for suffix in (".png", ".jpg", ".tif", ".webp", ".bmp", ".txt", ""):
        path = tmp_path / f"holiday{suffix}"
        if content == "TIFF":
            tifffile.imwrite(path, pixels, photometric="rgb")
        elif dtype == np.uint16:
            path.write_bytes(png_16bit(pixels))
        else:
            Image.fromarray(pixels).save(path, content, **LOSSLESS.get(content.lower(), {}))
        with subtests.test(suffix=suffix):
            photo = read_photo(path)
            assert photo.format == read_format(path) == content
            assert photo.size == read_size(path) == (8, 9)
            assert photo.pixels.dtype == dtype
            if content != "JPEG":
                assert np.array_equal(photo.pixels, pixels)
            named = format_from_name(path) or "no format that is known here"
            notice = f"its name says {named}, its content is {content}"
            assert photo.notices == (() if named == content else (notice,))
