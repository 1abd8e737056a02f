"""What every degradation guarantees: shapes, an unchanged input, equal bits, degenerate images."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product

import cv2
import numpy as np
import pytest
from numpy.random import default_rng

from opera_env.degradations import Degradation
from opera_env.degradations.blur import DefocusBlur, MotionBlur
from opera_env.degradations.camera import Jpeg, LowLight, LowResolution, Noise
from opera_env.degradations.weather import Haze, Rain
from tests.degradations.images import astronaut, max_abs_difference, small_image
from tests.degradations.own import SaltAndPepper, Vignette


def instances() -> Iterator[Degradation]:
    yield from (Noise("gaussian", 35.0), Noise("poisson", 2.0))
    yield from (MotionBlur(15, 5, 33.0), DefocusBlur(4, 0.5))
    yield from (Rain(75, 30, 15), Haze(0.85, 1.2), Jpeg(20), LowResolution())
    yield from (LowLight("shift", 40), LowLight("gamma", 0.6), LowLight("linear", 120))
    yield from (SaltAndPepper(0.2), Vignette(0.7))


def label(op: Degradation) -> str:
    return f"{op.name}-{getattr(op, 'kind', '')}".rstrip("-")


each = pytest.mark.parametrize("op", list(instances()), ids=label)


@each
def test_shape_dtype_and_untouched_input(op: Degradation) -> None:
    image = small_image(0, 64, 96)
    original = image.copy()
    image.setflags(write=False)
    result = op(image, default_rng(0))
    assert result.dtype == np.uint8
    assert result.shape == ((16, 24, 3) if op.name == "low_resolution" else (64, 96, 3))
    assert not np.shares_memory(result, image)
    assert (image == original).all()
    assert (result != image if op.name != "low_resolution" else result != 0).any()


@each
def test_views_give_the_bits_of_their_copies(op: Degradation) -> None:
    image = small_image(0, 80, 96)
    views = {"crop": image[3:67:2, 5:90:3], "flip": image[:, ::-1], "bgr": image[..., ::-1]}
    for name, view in views.items():
        assert (op(view, default_rng(3)) == op(view.copy(), default_rng(3))).all(), name


@each
def test_thread_count_changes_no_bit(op: Degradation) -> None:
    image = astronaut()[:256, 100:420]
    before = cv2.getNumThreads()
    try:
        results = []
        for threads in (1, 2, 4):
            cv2.setNumThreads(threads)
            results.append(op(image, default_rng(9)))
    finally:
        cv2.setNumThreads(before)
    assert (results[0] == results[1]).all() and (results[0] == results[2]).all()


@pytest.mark.filterwarnings("error")
@each
def test_degenerate_images(op: Degradation, subtests: pytest.Subtests) -> None:
    fills = ("black", "white", "grey", "one pixel", "noise")
    shapes = ((1, 1), (1, 7), (9, 1), (2, 3), (4, 4), (5, 33), (40, 48))
    for fill, shape in product(fills, shapes):
        with subtests.test(fill=fill, shape=shape):
            _check_degenerate_image(op, fill, shape)


def _check_degenerate_image(op: Degradation, fill: str, shape: tuple[int, int]) -> None:
    image = np.full((*shape, 3), {"white": 255, "grey": 128}.get(fill, 0), np.uint8)
    if fill == "one pixel":
        image[0, 0] = (255, 0, 10)
    elif fill == "noise":
        image = default_rng(0).integers(0, 256, image.shape, dtype=np.uint8)
    shrunk = (math.ceil(shape[0] / 4), math.ceil(shape[1] / 4))
    plain = fill in ("black", "white", "grey")
    for seed in range(3):
        result = op(image, default_rng(seed))
        assert result.dtype == np.uint8
        assert result.shape == (*(shrunk if op.name == "low_resolution" else shape), 3)
        if plain and op.name in ("motion_blur", "defocus_blur", "low_resolution"):
            assert np.array_equal(np.unique(result), image[0, 0, :1])
        if plain and op.name == "jpeg":
            assert max_abs_difference(result, image) <= 2
        if fill == "black" and (op.name == "low_light" or getattr(op, "kind", "") == "poisson"):
            assert not result.any()
