"""Written photographs keep pixels, bit depth, transparency and metadata."""

from __future__ import annotations

import zlib
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms
from PIL.TiffImagePlugin import IFDRational

from opera_env.data.photo import FORMATS, Photo
from opera_env.data.read import read_photo
from opera_env.data.write import drop_unsupported, write_photo
from opera_env.errors import ImageFileError

Array = NDArray[Any]

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()

XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description dc:creator="M\xc3\xbcller"/></x:xmpmeta>'

SIZES = ((13, 17), (1, 9), (9, 1), (1, 1))

HOLDERS = pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("PNG", np.uint8),
        ("PNG", np.uint16),
        ("TIFF", np.uint8),
        ("TIFF", np.uint16),
        ("JPEG", np.uint8),
        ("WEBP", np.uint8),
    ],
)
"""Formats that store a profile, EXIF and XMP."""


def noise(height: int, width: int, channels: int, dtype: Any = np.uint8) -> Array:
    values = np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, (height, width, channels))
    return values.astype(dtype)


def named(folder: Path, kind: str, stem: str = "a") -> Path:
    return folder / f"{stem}{FORMATS[kind].suffixes[0]}"


def write_and_read(folder: Path, photo: Photo) -> Photo:
    path = named(folder, photo.format)
    path.unlink(missing_ok=True)  # a file of the previous case: write_photo overwrites nothing
    write_photo(path, photo)
    return read_photo(path)


def assert_same(one: Photo, other: Photo) -> None:
    assert one.pixels.dtype == other.pixels.dtype
    assert np.array_equal(one.pixels, other.pixels)
    assert (one.alpha is None) == (other.alpha is None)
    if one.alpha is not None and other.alpha is not None:
        assert one.alpha.dtype == other.alpha.dtype
        assert np.array_equal(one.alpha, other.alpha)


@pytest.mark.parametrize(
    ("kind", "dtype"), [("PNG", np.uint8), ("PNG", np.uint16), ("TIFF", np.uint8), ("TIFF", np.uint16)]
)
def test_lossless(tmp_path: Path, kind: str, dtype: Any, subtests: pytest.Subtests) -> None:
    for size, alpha, channels in product((*SIZES, (3, 2), (300, 5)), (False, True), (1, 3)):
        with subtests.test(size=size, alpha=alpha, channels=channels):
            pixels = noise(*size, channels + alpha, dtype)
            photo = Photo(pixels[..., :channels], pixels[..., -1] if alpha else None, kind)
            again = write_and_read(tmp_path, photo)
            assert_same(again, photo)
            assert again.notices == ()
            assert (again.icc, again.exif, again.xmp, again.dpi) == (None, None, None, None)


def test_bmp(tmp_path: Path, subtests: pytest.Subtests) -> None:
    for size, channels in product(SIZES, (1, 3)):
        with subtests.test(size=size, channels=channels):
            photo = Photo(noise(*size, channels), format="BMP")
            assert_same(write_and_read(tmp_path, photo), photo)


@pytest.mark.parametrize("alpha", [False, True])
def test_lossless_webp_stays_lossless(tmp_path: Path, alpha: bool, subtests: pytest.Subtests) -> None:
    """Including the colours of fully transparent pixels."""
    for size in SIZES:
        with subtests.test(size=size):
            pixels = noise(*size, 4)
            mask = pixels[..., 3] // 128 * 255 if alpha else None
            photo = Photo(pixels[..., :3], mask, "WEBP", lossless=True)
            again = write_and_read(tmp_path, photo)
            assert_same(again, photo)
            assert again.lossless


@pytest.mark.parametrize(("kind", "channels"), [("JPEG", 1), ("JPEG", 3), ("WEBP", 1), ("WEBP", 3)])
def test_lossy(tmp_path: Path, kind: str, channels: int, subtests: pytest.Subtests) -> None:
    for size in SIZES:
        with subtests.test(size=size):
            pixels = np.broadcast_to(np.array((200, 100, 50)[:channels], np.uint8), (*size, channels))
            again = write_and_read(tmp_path, Photo(pixels, format=kind))
            assert again.pixels.shape == (*size, 3 if kind == "WEBP" else channels)
            assert np.abs(again.pixels.astype(int) - pixels).max() <= 4
            assert again.notices == ()
            assert not again.lossless


def test_webp_keeps_transparency_exactly(tmp_path: Path) -> None:
    pixels = noise(20, 20, 4)
    again = write_and_read(tmp_path, Photo(pixels[..., :3], pixels[..., 3], "WEBP"))
    assert again.alpha is not None
    assert np.array_equal(again.alpha, pixels[..., 3])


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_every_grey_level_survives_file_and_tensor(tmp_path: Path, kind: str) -> None:
    photo = Photo(np.arange(65536, dtype=np.uint16).reshape(256, 256, 1), format=kind)
    again = write_and_read(tmp_path, photo)
    assert_same(write_and_read(tmp_path / "more", again.with_image(again.tensor())), photo)


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["PNG", "TIFF"]),
    dtype=st.sampled_from([np.uint8, np.uint16]),
    channels=st.sampled_from([1, 3]),
    alpha=st.booleans(),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    seed=st.integers(0, 2**32 - 1),
    flat=st.booleans(),
)
def test_any_small_photograph_survives_a_round_trip(
    tmp_path_factory: pytest.TempPathFactory,
    kind: str,
    dtype: Any,
    channels: int,
    alpha: bool,
    height: int,
    width: int,
    seed: int,
    flat: bool,
) -> None:
    rng, top = np.random.default_rng(seed), np.iinfo(dtype).max + 1
    pixels = rng.integers(0, top, (height, width, channels + alpha))
    pixels = (np.full_like(pixels, rng.integers(top)) if flat else pixels).astype(dtype)
    photo = Photo(pixels[..., :channels], pixels[..., -1] if alpha else None, kind)
    assert_same(write_and_read(tmp_path_factory.mktemp("any"), photo), photo)


@pytest.mark.parametrize("quality", [1, 95, 100])
def test_noise_is_written_at_any_quality(tmp_path: Path, quality: int) -> None:
    """With optimize Pillow fails: noise needs more bytes than it expects."""
    photo = Photo(noise(400, 300, 3), format="JPEG")
    write_photo(tmp_path / "a.jpg", photo, quality)
    difference = np.abs(read_photo(tmp_path / "a.jpg").pixels.astype(int) - photo.pixels).mean()
    assert (difference < 5) == (quality >= 95)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_higher_quality_gives_larger_files(tmp_path: Path, kind: str) -> None:
    sizes = []
    for quality in (20, 60, 95):
        write_photo(named(tmp_path, kind, str(quality)), Photo(noise(64, 64, 3), format=kind), quality)
        sizes.append(named(tmp_path, kind, str(quality)).stat().st_size)
    assert sizes[0] < sizes[1] < sizes[2]


def test_jpeg_does_not_subsample_chroma(tmp_path: Path) -> None:
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:, ::2, 0] = pixels[:, 1::2, 2] = 255  # red and blue lines
    again = write_and_read(tmp_path, Photo(pixels, format="JPEG"))
    assert np.abs(again.pixels.astype(int) - pixels).mean() < 12


# What the file says besides


def camera(orientation: int = 1) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Maker"
    exif[ExifTags.Base.Model] = "Model 1"
    exif[ExifTags.Base.Copyright] = "Somebody"
    exif[ExifTags.Base.Orientation] = orientation
    exif.get_ifd(ExifTags.IFD.Exif).update(
        {
            ExifTags.Base.DateTimeOriginal: "2024:05:06 07:08:09",
            ExifTags.Base.ExposureTime: IFDRational(1, 250),
            ExifTags.Base.FNumber: IFDRational(28, 10),
            ExifTags.Base.ISOSpeedRatings: 400,
            ExifTags.Base.ExposureBiasValue: IFDRational(-2, 3),
            ExifTags.Base.ExifImageWidth: 1111,
            ExifTags.Base.ExifImageHeight: 2222,
            ExifTags.Base.ExifVersion: b"0232",
            ExifTags.Base.MakerNote: b"note\0\1\2",
        }
    )
    exif.get_ifd(ExifTags.IFD.GPSInfo).update(
        {
            ExifTags.GPS.GPSLatitudeRef: "N",
            ExifTags.GPS.GPSLatitude: (IFDRational(47), IFDRational(30), IFDRational(123, 10)),
        }
    )
    return exif


def taken(kind: str, dtype: Any = np.uint8, orientation: int = 1, **metadata: Any) -> Photo:
    exif = Image.Exif()
    exif.load(camera(orientation).tobytes())
    return Photo(noise(12, 20, 3, dtype), format=kind, exif=exif, **metadata)


def assert_camera(photo: Photo, size: tuple[int, int]) -> None:
    assert photo.exif is not None
    general = {tag: value for tag, value in photo.exif.items() if tag not in (0x8769, 0x8825)}
    assert general == {
        ExifTags.Base.Make: "Maker",
        ExifTags.Base.Model: "Model 1",
        ExifTags.Base.Copyright: "Somebody",
    }
    expected = camera().get_ifd(ExifTags.IFD.Exif)
    expected |= {ExifTags.Base.ExifImageHeight: size[0], ExifTags.Base.ExifImageWidth: size[1]}
    assert dict(photo.exif.get_ifd(ExifTags.IFD.Exif)) == expected
    assert dict(photo.exif.get_ifd(ExifTags.IFD.GPSInfo)) == camera().get_ifd(ExifTags.IFD.GPSInfo)


@HOLDERS
def test_camera_data_survive(tmp_path: Path, kind: str, dtype: Any) -> None:
    """Two round trips, each with the current size of the photograph in the EXIF data."""
    again = write_and_read(tmp_path, taken(kind, dtype))
    assert_camera(again, (12, 20))
    larger = write_and_read(tmp_path / "larger", again.with_image(torch.zeros(3, 24, 40)))
    assert_camera(larger, (24, 40))
    assert larger.notices == ()


@HOLDERS
def test_writing_does_not_change_the_photograph(tmp_path: Path, kind: str, dtype: Any) -> None:
    photo = taken(kind, dtype, orientation=6)
    assert photo.exif is not None
    before = photo.exif.tobytes()
    write_photo(named(tmp_path, kind), photo)
    assert photo.exif.tobytes() == before


@HOLDERS
def test_what_is_written_is_upright(tmp_path: Path, kind: str, dtype: Any) -> None:
    photo = taken(kind, dtype, orientation=6)
    again = write_and_read(tmp_path, photo)
    assert again.size == photo.size
    with Image.open(named(tmp_path, kind)) as pil_image:
        assert pil_image.getexif().get(ExifTags.Base.Orientation, 1) == 1


@HOLDERS
def test_orientation_is_applied_once(
    tmp_path: Path, kind: str, dtype: Any, subtests: pytest.Subtests
) -> None:
    """A second round trip changes nothing."""
    for orientation in range(1, 9):
        with subtests.test(orientation=orientation):
            _check_turned_once(tmp_path, kind, dtype, orientation)


def _check_turned_once(tmp_path: Path, kind: str, dtype: Any, orientation: int) -> None:
    stored = np.full((24, 40, 3), np.iinfo(dtype).max, dtype)
    stored[:8, :8, 1:] = 0  # a red corner
    path = named(tmp_path, kind, "stored")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    if kind == "TIFF":
        tag = (ExifTags.Base.Orientation, "H", 1, orientation, True)
        tifffile.imwrite(path, stored, photometric="rgb", extratags=[tag], metadata=None)
    elif dtype == np.uint16:
        data, metadata = imagecodecs.png_encode(stored), exif.tobytes()[6:]
        ends = len(metadata).to_bytes(4, "big"), zlib.crc32(b"eXIf" + metadata).to_bytes(4, "big")
        path.write_bytes(data[:33] + ends[0] + b"eXIf" + metadata + ends[1] + data[33:])
    else:
        Image.fromarray(stored).save(path, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    read = read_photo(path)
    assert read.size == ((24, 40) if orientation < 5 else (40, 24))
    bottom, right = {
        1: (0, 0),
        2: (0, 1),
        3: (1, 1),
        4: (1, 0),
        5: (0, 0),
        6: (0, 1),
        7: (1, 1),
        8: (1, 0),
    }[orientation]
    again = write_and_read(tmp_path, read)
    for photo in (read, again):
        green = photo.pixels[..., 1] / np.iinfo(dtype).max
        assert green[-3 if bottom else 2, -3 if right else 2] < 0.2
        assert (green < 0.5).mean() == pytest.approx(64 / 960, abs=0.02)
    if kind != "JPEG":
        assert_same(again, read)


@HOLDERS
def test_profile_resolution_and_xmp_survive(tmp_path: Path, kind: str, dtype: Any) -> None:
    photo = taken(kind, dtype, icc=SRGB, dpi=(300.0, 150.0), xmp=XMP, lossless=True)
    again = write_and_read(tmp_path, write_and_read(tmp_path / "first", photo))
    assert again.icc == SRGB
    assert again.xmp == XMP
    if kind != "WEBP":  # which has no place for it
        assert again.dpi == pytest.approx((300, 150), rel=1e-4)
    assert_camera(again, (12, 20))
    assert again.notices == ()
    if kind != "JPEG":
        assert_same(again, photo)


@pytest.mark.parametrize("channels", [1, 3])
@HOLDERS
def test_transparency_and_grey_are_kept_beside_a_profile(
    tmp_path: Path, kind: str, dtype: Any, channels: int
) -> None:
    grey = bytearray(SRGB)
    grey[16:20] = b"GRAY"
    icc = SRGB if channels == 3 else bytes(grey)
    pixels = noise(6, 7, channels + 1, dtype)
    alpha = pixels[..., -1] if FORMATS[kind].alpha else None
    photo = Photo(pixels[..., :channels], alpha, kind, icc=icc, lossless=True)
    again = write_and_read(tmp_path, photo)
    if kind == "WEBP" and channels == 1:
        assert again.icc is None, "it would not fit the colours"
        assert drop_unsupported(photo).notices == (
            "WEBP holds no grey, so its profile of grey levels is left out",
        )
    else:
        assert again.icc == icc
        assert again.pixels.shape == photo.pixels.shape
        assert drop_unsupported(photo).notices == ()
    if kind not in ("JPEG", "WEBP"):
        assert_same(again, photo)


def test_bmp_keeps_the_resolution(tmp_path: Path) -> None:
    again = write_and_read(tmp_path, Photo(noise(4, 4, 3), format="BMP", dpi=(300.0, 150.0)))
    assert again.dpi == pytest.approx((300, 150), rel=1e-3)


@HOLDERS
@pytest.mark.parametrize(
    "letters", ["Müller", "Müller".encode().decode("latin-1")], ids=["latin-1", "utf-8"]
)
def test_letters_beyond_ascii_survive(tmp_path: Path, kind: str, dtype: Any, letters: str) -> None:
    """Byte for byte; Pillow alone would write question marks."""
    photo = taken(kind, dtype)
    assert photo.exif is not None
    photo.exif[ExifTags.Base.Artist] = letters
    photo.exif[ExifTags.Base.XPTitle] = "Übung".encode("utf-16-le")
    photo.exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.LensModel] = letters
    again = write_and_read(tmp_path, photo)
    assert letters.encode("latin-1") in named(tmp_path, kind).read_bytes()
    again = write_and_read(tmp_path / "more", again)
    assert again.exif is not None
    assert again.exif[ExifTags.Base.Artist] == letters
    assert again.exif[ExifTags.Base.XPTitle] == "Übung".encode("utf-16-le")
    assert again.exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.LensModel] == letters


@HOLDERS
def test_camera_data_survive_a_change_of_format(
    tmp_path: Path, kind: str, dtype: Any, subtests: pytest.Subtests
) -> None:
    photo = write_and_read(tmp_path, taken(kind, dtype, icc=SRGB, xmp=XMP, dpi=(300.0, 300.0)))
    for target in ("PNG", "JPEG", "TIFF", "WEBP"):
        with subtests.test(target=target):
            again = write_and_read(tmp_path / "other", replace(photo, format=target))
            assert_camera(again, (12, 20))
            assert (again.icc, again.xmp) == (SRGB, XMP)


# What a format cannot hold


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "BMP"])
def test_sixteen_bits_become_eight_with_a_notice(tmp_path: Path, kind: str) -> None:
    levels = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1)
    photo = Photo(levels, levels[..., 0], kind, lossless=True)
    written = write_photo(named(tmp_path, kind), photo)
    assert written.bits == 8
    assert written.pixels.dtype == np.uint8
    assert np.abs(written.pixels.astype(int) - levels / 257).max() <= 0.5, "rounded, and white stays white"
    assert f"{kind} holds 8 of its 16 bits" in written.notices
    if kind == "WEBP":
        assert written.alpha is not None
        assert np.array_equal(written.alpha, written.pixels[..., 0])
    if kind == "BMP":
        assert np.array_equal(read_photo(tmp_path / "a.bmp").pixels, written.pixels)


@pytest.mark.parametrize("kind", ["JPEG", "BMP"])
def test_transparency_is_left_out_with_a_notice(tmp_path: Path, kind: str) -> None:
    photo = Photo(noise(4, 4, 3), noise(4, 4, 1)[..., 0], kind, notices=("before",))
    written = write_photo(named(tmp_path, kind), photo)
    assert written.alpha is None
    assert written.notices == ("before", f"{kind} holds no transparency")
    assert read_photo(named(tmp_path, kind)).alpha is None
    assert photo.alpha is not None


def test_metadata_are_left_out_of_bmp_with_a_notice(tmp_path: Path) -> None:
    written = write_photo(tmp_path / "a.bmp", taken("BMP", icc=SRGB, xmp=XMP))
    assert (written.icc, written.exif, written.xmp) == (None, None, None)
    assert written.notices == ("BMP holds no colour profile and no EXIF",)


@pytest.mark.parametrize("kind", FORMATS)
def test_supported_content_is_kept_without_notices(kind: str) -> None:
    photo = Photo(noise(4, 4, 3), format=kind, dpi=(72, 72))
    assert drop_unsupported(photo).notices == ()
    assert drop_unsupported(photo).pixels is photo.pixels
    assert drop_unsupported(drop_unsupported(photo)).notices == ()


@pytest.mark.parametrize("metadata", ["exif", "xmp"])
def test_metadata_too_long_for_jpeg_are_left_out_with_a_notice(tmp_path: Path, metadata: str) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = "x" * 65600
    data: Any = exif if metadata == "exif" else b"x" * 65520
    written = write_photo(
        tmp_path / "a.jpg", replace(Photo(noise(4, 4, 3), format="JPEG"), **{metadata: data})
    )
    assert getattr(written, metadata) is None
    assert written.notices == (f"its {metadata.upper()} data is too long for JPEG",)
    assert getattr(read_photo(tmp_path / "a.jpg"), metadata) is None


def test_the_longest_metadata_of_jpeg_are_kept(tmp_path: Path) -> None:
    photo = Photo(noise(4, 4, 3), format="JPEG", xmp=b"x" * 65504, icc=SRGB * 100)
    again = write_and_read(tmp_path, photo)
    assert (again.xmp, again.icc) == (photo.xmp, photo.icc)


@pytest.mark.parametrize(("kind", "longest"), [("JPEG", 65500), ("WEBP", 16383)])
@pytest.mark.parametrize("upright", [False, True])
def test_too_long_sides_are_refused(tmp_path: Path, kind: str, longest: int, upright: bool) -> None:
    path = named(tmp_path, kind)

    def photo(side: int) -> Photo:
        return Photo(np.zeros((side, 1, 3) if upright else (1, side, 3), np.uint8), format=kind)

    with pytest.raises(ImageFileError, match=f"at most {longest}") as caught:
        write_photo(path, photo(longest + 1))
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    write_photo(path, photo(longest))
    assert max(read_photo(path).size) == longest


@pytest.mark.parametrize("kind", FORMATS)
def test_a_photograph_enlarged_four_times_is_written(
    tmp_path: Path, kind: str, subtests: pytest.Subtests
) -> None:
    for size, channels in product(((1, 40), (40, 1), (7, 5)), (1, 3)):
        with subtests.test(size=size, channels=channels):
            pixels = noise(*size, channels + 1)
            photo = Photo(pixels[..., :channels], pixels[..., -1], kind, dpi=(72, 72))
            larger = torch.nn.functional.interpolate(photo.tensor()[None], scale_factor=4)[0]
            again = write_and_read(tmp_path, photo.with_image(larger))
            assert again.size == (4 * size[0], 4 * size[1])
            assert again.pixels.shape[2] == (3 if kind == "WEBP" else channels)
            assert (again.alpha is not None) == FORMATS[kind].alpha


@pytest.mark.parametrize("shape", [(1, 1, 3), (4000, 1, 3), (1, 4000, 3), (900, 2, 3)])
def test_noise_of_any_shape_fits_into_a_png(shape: tuple[int, int, int], tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    write_photo(tmp_path / "a.png", Photo(pixels, format="PNG"))
    assert np.array_equal(read_photo(tmp_path / "a.png").pixels, pixels)
