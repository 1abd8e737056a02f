"""Training pairs: the degraded and the clean patch show the same part of the image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.random import default_rng
from numpy.typing import NDArray
from PIL import Image
from skimage import data

from opera_env.degradations import DEGRADATIONS, degrade
from opera_env.errors import OperaError
from opera_env.tool_training.patches import DegradeFn, collate_pairs, training_pair, validation_pair

PHOTOGRAPHS: list[NDArray[np.uint8]] = [data.astronaut()[:301, :258], data.coffee()[:203, 100:401]]


def _by(*recipe: str) -> DegradeFn:
    """Degrades by a recipe, as the benchmark does."""
    return lambda image, rng: degrade(image, recipe, rng)[0]


def _upsampled(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.float64]:
    picture = Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BICUBIC)
    return np.asarray(picture, np.float64)


def _match(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Correlation of the local differences of two images."""

    def details(image: NDArray[np.float64]) -> NDArray[np.float64]:
        grey = image.mean(axis=2)
        return (grey - np.roll(grey, 4, axis=0))[8:-8, 8:-8] + (grey - np.roll(grey, 4, axis=1))[8:-8, 8:-8]

    return float(np.corrcoef(details(a).ravel(), details(b).ravel())[0, 1])


@pytest.mark.parametrize("recipe", [(), *((name,) for name in DEGRADATIONS), ("rain", "low_resolution")])
@pytest.mark.parametrize("margin", [0, 8, 48])
def test_patches_have_the_requested_size(recipe: tuple[str, ...], margin: int) -> None:
    side = 16 if "low_resolution" in recipe else 64
    for seed in range(4):
        degraded, clean = training_pair(PHOTOGRAPHS, _by(*recipe), 64, margin, default_rng(seed))
        assert degraded.shape == (side, side, 3)
        assert clean.shape == (64, 64, 3)
        assert degraded.dtype == clean.dtype == np.uint8


@pytest.mark.parametrize("shape", [(64, 64), (65, 67), (64, 130), (71, 64), (100, 90)])
@pytest.mark.parametrize("recipe", [("noise",), ("low_resolution",)])
def test_the_margin_is_narrower_where_the_image_is_too_small(
    shape: tuple[int, int], recipe: tuple[str, ...]
) -> None:
    image = PHOTOGRAPHS[0][: shape[0], : shape[1]]
    for seed in range(8):
        degraded, clean = training_pair([image], _by(*recipe), 64, 48, default_rng(seed))
        assert clean.shape == (64, 64, 3)
        assert degraded.shape[0] in (16, 64)


def test_an_image_smaller_than_the_patch_is_refused() -> None:
    with pytest.raises(OperaError, match="64"):
        training_pair([PHOTOGRAPHS[0][:48, :80]], _by("noise"), 64, 0, default_rng(0))


@pytest.mark.parametrize("margin", [0, 8, 32])
def test_without_a_degradation_both_patches_are_equal(margin: int) -> None:
    for seed in range(5):
        degraded, clean = training_pair(PHOTOGRAPHS, _by(), 64, margin, default_rng(seed))
        assert np.array_equal(degraded, clean)


@pytest.mark.parametrize("recipe", [("low_resolution",), ("jpeg",), ("haze",), ("low_light",)])
@pytest.mark.parametrize("margin", [0, 8, 48])
def test_both_patches_show_the_same_part_of_the_image(recipe: tuple[str, ...], margin: int) -> None:
    """The degraded patch, enlarged, matches the clean patch better than any shifted copy of it."""
    for seed in range(6):
        degraded, clean = training_pair(PHOTOGRAPHS, _by(*recipe), 64, margin, default_rng(seed))
        enlarged = _upsampled(degraded, (64, 64))
        scores = {
            (dy, dx): _match(enlarged, np.roll(clean.astype(np.float64), (dy, dx), axis=(0, 1)))
            for dy in (-4, -2, 0, 2, 4)
            for dx in (-4, -2, 0, 2, 4)
        }
        assert max(scores, key=lambda shift: scores[shift]) == (0, 0), (
            seed,
            scores[0, 0],
            max(scores.values()),
        )


@pytest.mark.parametrize("side", [240, 100, 92, 72])
def test_low_resolution_patches_are_cut_on_the_grid_of_low_resolution_pixels(side: int) -> None:
    """In a smooth image, every low-resolution pixel is the mean of its sixteen clean pixels."""
    rows, columns = np.mgrid[0:side, 0:side]
    ramp = np.stack([rows, columns, 255 - rows], axis=2).clip(0, 255).astype(np.uint8)
    for seed in range(12):
        degraded, clean = training_pair([ramp], _by("low_resolution"), 64, 16, default_rng(seed))
        means = clean.reshape(16, 4, 16, 4, 3).mean(axis=(1, 3))
        assert np.abs(means - degraded)[2:-2, 2:-2].max() <= 1


def test_the_margin_affects_the_patch() -> None:
    """With a margin, blur at the border of the patch depends on the surrounding photograph."""
    rng = default_rng(0)
    texture = rng.integers(0, 256, (160, 160, 3), np.uint8)

    def border(margin: int) -> float:
        rough: list[float] = []
        for seed in range(20):
            degraded, _ = training_pair([texture], _by("motion_blur"), 64, margin, default_rng(seed))
            grey = degraded.astype(np.float64).mean(axis=2)
            inner = grey[20:-20, 20:-20].std()
            edge = np.concatenate([grey[:3].ravel(), grey[-3:].ravel()]).std()
            rough.append(edge / inner)
        return float(np.mean(rough))

    assert border(48) == pytest.approx(1, abs=0.05)
    assert border(0) > 1.1


def test_the_generator_is_the_only_source_of_randomness() -> None:
    def draw(seed: int) -> list[bytes]:
        rng = default_rng(seed)
        np.random.seed(draw.calls)  # noqa: NPY002 - the global state must have no effect
        torch.manual_seed(draw.calls)
        draw.calls += 1
        pairs = [
            training_pair(PHOTOGRAPHS, _by(*recipe), 64, 16, rng)
            for recipe in (("rain", "noise"), ("haze",)) * 2
        ]
        return [patch.tobytes() for pair in pairs for patch in pair]

    draw.calls = 0  # type: ignore[attr-defined]
    assert draw(3) == draw(3)
    assert draw(3) != draw(4)


def test_patches_are_rotated_and_flipped_or_only_flipped() -> None:
    rows = np.repeat(np.arange(128, dtype=np.uint8)[:, None], 128, axis=1)
    columns = rows.T
    image = np.stack([rows, columns, np.zeros_like(rows)], axis=2)

    def orientations(flip_only: bool) -> set[tuple[int, ...]]:
        """The directions of two ramps, the first downwards and the second to the right."""
        rng = default_rng(0)
        actual = set()
        for _ in range(60):
            _, clean = training_pair([image], _by(), 32, 0, rng, flip_only)
            signed = clean.astype(int)
            down, right = signed[-1, 0] - signed[0, 0], signed[0, -1] - signed[0, 0]
            actual.add(tuple(np.sign([down[0], right[0], down[1], right[1]]).tolist()))
        return actual

    assert len(orientations(flip_only=False)) == 8
    assert orientations(flip_only=True) == {(1, 0, 0, 1), (1, 0, 0, -1)}


def test_every_image_is_drawn() -> None:
    rng = default_rng(0)
    grey = [np.full((80, 80, 3), level, np.uint8) for level in (0, 100, 200)]
    assert {int(training_pair(grey, _by(), 64, 0, rng)[1].mean()) for _ in range(40)} == {0, 100, 200}


def test_the_degraded_patch_is_the_result_of_the_callable() -> None:
    def invert(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        assert image.flags.c_contiguous
        return 255 - image

    for margin in (0, 16):
        degraded, clean = training_pair(PHOTOGRAPHS, invert, 64, margin, default_rng(3))
        assert np.array_equal(degraded, 255 - clean)
    degraded, clean = validation_pair(PHOTOGRAPHS[0], invert, 128, 0)
    assert np.array_equal(degraded, 255 - clean)


def test_a_validation_pair_is_the_centre_crop_degraded_without_a_margin() -> None:
    image = PHOTOGRAPHS[0]
    for recipe, side in ((("noise",), 128), (("low_resolution",), 32)):
        degraded, clean = validation_pair(image, _by(*recipe), 128, 7)
        top, left = (301 - 128) // 2, (258 - 128) // 2
        assert np.array_equal(clean, image[top : top + 128, left : left + 128])
        assert degraded.shape == (side, side, 3)
        again, _ = validation_pair(image, _by(*recipe), 128, 7)
        assert np.array_equal(degraded, again)
    other_pair, _ = validation_pair(image, _by("noise"), 128, 8)
    assert not np.array_equal(other_pair, validation_pair(image, _by("noise"), 128, 7)[0])


def test_collated_pairs_are_float32_in_range() -> None:
    pairs = [
        training_pair(PHOTOGRAPHS, _by("low_resolution"), 64, 0, default_rng(seed)) for seed in range(3)
    ]
    degraded, clean = collate_pairs(pairs)
    assert degraded.shape == (3, 3, 16, 16)
    assert clean.shape == (3, 3, 64, 64)
    assert degraded.dtype == clean.dtype == torch.float32
    assert torch.equal(
        (clean[1] * 255).round().byte().permute(1, 2, 0), torch.from_numpy(pairs[1][1].copy())
    )
