"""Looks: seeded, pure, and different from the damage that they resemble."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from numpy.random import default_rng

from opera_env.degradations.real import LOOKS, draw_look
from opera_env.degradations.real.segments import picture_depth, segment
from tests.degradations.images import astronaut, small_image

every_look = pytest.mark.parametrize("name", LOOKS)


@every_look
def test_a_look_is_seeded_and_pure(name: str) -> None:
    image = np.ascontiguousarray(astronaut()[:64, 170:234])
    image.flags.writeable = False
    first, again = (LOOKS[name](image, default_rng(5)) for _ in range(2))
    assert first.dtype == np.uint8 and first.shape == image.shape
    assert np.array_equal(first, again) and not np.array_equal(first, image)
    assert LOOKS[name](small_image(1, 4, 4), default_rng(0)).shape == (4, 4, 3)


def test_half_of_the_photographs_have_no_look_and_all_looks_occur() -> None:
    rng = default_rng(0)
    drawn = Counter(draw_look(rng) for _ in range(1400))
    assert drawn[None] / 1400 == pytest.approx(0.5, abs=0.06)
    assert set(drawn) == {None, *LOOKS}
    assert all(drawn[name] / 1400 == pytest.approx(1 / 14, abs=0.035) for name in LOOKS)


def test_fog_leaves_the_foreground_clear() -> None:
    image = np.ascontiguousarray(astronaut()[:96, 170:266])
    far_and_near = []
    for seed in range(4):
        change = np.abs(LOOKS["fog"](image, default_rng(seed)) - image.astype(float)).mean(axis=(1, 2))
        far_and_near.append((change[:24].mean(), change[-24:].mean()))
    far, near = np.mean(far_and_near, axis=0)
    assert far > 2 * near


@pytest.mark.parametrize("name", ["film_grain", "monochrome"])
def test_film_has_no_noise_of_colour(name: str) -> None:
    grey = np.full((48, 48, 3), 120, np.uint8)
    result = LOOKS[name](grey, default_rng(3)).astype(float)
    assert (result[..., 0] - result[..., 2]).std() < 0.6


def test_depth_follows_the_picture() -> None:
    """A step of colour is a step of depth, and blue, smooth areas at the top are at infinity."""
    image = np.full((64, 64, 3), (120, 90, 40), np.uint8)
    image[:24] = (120, 170, 240)
    for seed in range(3):
        depth = picture_depth(image, default_rng(seed))
        assert depth.dtype == np.float32 and depth.min() >= 0 and depth.max() <= 1
        assert depth[:20].min() > 0.9
        assert depth[20:22].mean() - depth[26:28].mean() > 0.5 * (depth[10].mean() - depth[32].mean())


def test_segments_of_tiny_images() -> None:
    assert segment(np.zeros((2, 5, 3), np.float32)).shape == (2, 5)
    assert picture_depth(small_image(0, 4, 4), default_rng(0)).shape == (4, 4)
