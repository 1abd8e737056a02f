"""A photograph in memory: no grey level changes on the way to a tensor and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from opera_env.data.photo import FORMATS, Photo, format_from_name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.png", "PNG"),
        ("a.JPG", "JPEG"),
        ("a.jpeg", "JPEG"),
        ("a.jfif", "JPEG"),
        ("a.b.Tif", "TIFF"),
        ("a.TIFF", "TIFF"),
        ("a.webp", "WEBP"),
        ("a.bmp", "BMP"),
        ("png", None),
        (".png", None),
        ("a.gif", None),
        ("a.png.bak", None),
    ],
)
def test_format_from_name(name: str, expected: str | None) -> None:
    assert format_from_name(name) == expected
    assert format_from_name(Path("folder.bmp") / name) == expected


def test_a_suffix_belongs_to_one_format() -> None:
    suffixes = [suffix for known in FORMATS.values() for suffix in known.suffixes]
    assert len(suffixes) == len(set(suffixes))
    assert all(format_from_name(f"a{known.suffixes[0]}") == name for name, known in FORMATS.items())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_grey_level_survives_a_round_trip(dtype: type[np.uint8 | np.uint16], channels: int) -> None:
    """Also with more rows than are converted at once."""
    levels = np.arange(np.iinfo(dtype).max + 1).reshape(-1, 16)
    levels = np.vstack([levels] * (600 // len(levels) + 1))
    pixels = np.stack([np.roll(levels, shift) for shift in range(channels)], axis=2).astype(dtype)
    photo = Photo(pixels)
    image = photo.tensor()
    assert image.shape == (3, *photo.size)
    assert image.dtype == torch.float32
    assert (image.min(), image.max()) == (0, 1)
    again = photo.with_image(image)
    assert again.pixels.dtype == dtype
    assert np.array_equal(again.pixels, pixels)


def test_bits_and_size() -> None:
    assert Photo(np.zeros((2, 5, 3), np.uint8)).bits == 8
    assert Photo(np.zeros((2, 5, 1), np.uint16)).bits == 16
    assert Photo(np.zeros((2, 5, 1), np.uint16)).size == (2, 5)


def test_tensors_are_copies_and_inputs_stay_unchanged() -> None:
    photo = Photo(np.full((4, 4, 3), 7, np.uint8))
    photo.tensor().zero_()
    assert (photo.pixels == 7).all()
    image = torch.full((3, 4, 4), 1.5)
    photo.with_image(image)
    assert (image == 1.5).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_images_are_clamped_and_rounded(dtype: type[np.uint8 | np.uint16]) -> None:
    top = np.iinfo(dtype).max
    values = torch.tensor([-1, -0.4 / top, 0.4 / top, 0.6 / top, (top - 0.6) / top, (top - 0.4) / top, 1.5])
    photo = Photo(np.zeros((1, 7, 3), dtype)).with_image(values.expand(3, 1, 7))
    assert photo.pixels[0, :, 2].tolist() == [0, 0, 0, 1, top - 1, top, top]


def test_grey_takes_the_luma() -> None:
    image = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]])[:, None]  # red, green, blue
    photo = Photo(np.zeros((1, 3, 1), np.uint8)).with_image(image)
    assert photo.pixels.shape == (1, 3, 1)
    assert photo.pixels.ravel().tolist() == [76, 150, 29]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_transparency_is_resampled_to_the_new_size(dtype: type[np.uint8 | np.uint16]) -> None:
    top = np.iinfo(dtype).max
    alpha = np.zeros((6, 8), dtype)
    alpha[:, 4:] = top
    photo = Photo(np.zeros((6, 8, 3), dtype), alpha, dpi=(72, 72), notices=("so it is",))
    larger = photo.with_image(torch.zeros(3, 24, 32))
    assert larger.alpha is not None
    assert larger.alpha.shape == larger.size == (24, 32)
    assert larger.alpha.dtype == dtype
    assert (larger.alpha[:, :12] == 0).all()
    assert (larger.alpha[:, 20:] == top).all(), "no overshoot that wraps round"
    assert (larger.dpi, larger.notices) == (photo.dpi, photo.notices)
    assert photo.with_image(torch.zeros(3, 6, 8)).alpha is alpha
