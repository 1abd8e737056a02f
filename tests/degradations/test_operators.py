"""Each operator against its stated range, its slow reference and its statistics."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import default_rng
from skimage import data

from opera_env.degradations import (
    DEGRADATION_CLASSES,
    DEGRADATIONS,
    Degradation,
    degrade,
    procedural_depth,
)
from opera_env.degradations.blur import DefocusBlur, MotionBlur
from opera_env.degradations.camera import Jpeg, LowLight, LowResolution, Noise
from opera_env.degradations.weather import Haze, Rain
from tests.degradations import slow_reference as slow
from tests.degradations.images import Uint8Image, max_abs_difference, small_image

DRAWS = 3000
steady = settings(max_examples=12, deadline=None, derandomize=True)


images = st.integers(0, 2**32 - 1).map(small_image)
seeds = st.integers(0, 2**32 - 1)


def grey(level: int = 128, side: int = 256) -> Uint8Image:
    return np.full((side, side, 3), level, np.uint8)


def draws_of(name: str) -> list[Degradation]:
    rng = default_rng(20260522)
    return [DEGRADATION_CLASSES[name].draw(rng) for _ in range(DRAWS)]


def assert_uniform(values: Sequence[float], low: float, high: float) -> None:
    """Checks the range, both ends, the mean and the spread of a uniform distribution."""
    array, span = np.array(values), high - low
    assert low <= array.min() < low + 0.02 * span
    assert high - 0.02 * span < array.max() <= high
    assert abs(array.mean() - (low + high) / 2) < 4 * span / math.sqrt(12 * len(array))
    assert array.std() == pytest.approx(span / math.sqrt(12), rel=0.06)


def assert_whole(values: Sequence[float], low: int, high: int) -> None:
    """Checks for whole numbers from low to high - 1, each about equally often."""
    assert all(float(value).is_integer() for value in values)
    numbers, counts = np.unique(values, return_counts=True)
    assert numbers.tolist() == list(range(low, high))
    expected = len(values) / (high - low)
    assert np.abs(counts - expected).max() < 5 * math.sqrt(expected)


def assert_fraction(count: int, share: float, of: int) -> None:
    assert abs(count - share * of) < 4 * math.sqrt(of * share * (1 - share))


# ---- stated ranges -----------------------------------------------------------------------------


def test_noise_range() -> None:
    drawn = [op for op in draws_of("noise") if isinstance(op, Noise)]
    gaussian = [op.level for op in drawn if op.kind == "gaussian"]
    poisson = [op.level for op in drawn if op.kind == "poisson"]
    assert len(gaussian) + len(poisson) == DRAWS
    assert_fraction(len(gaussian), 0.5, DRAWS)
    assert_uniform(gaussian, 20, 50)
    assert_uniform(poisson, 1, 3)


def test_motion_blur_range() -> None:
    drawn = [op for op in draws_of("motion_blur") if isinstance(op, MotionBlur)]
    pairs = [(op.radius, op.sigma) for op in drawn]
    assert set(pairs) == {(10, 3), (15, 5), (15, 8)}
    for pair in set(pairs):
        assert_fraction(pairs.count(pair), 1 / 3, DRAWS)
    assert_uniform([op.angle for op in drawn], -90, 90)


def test_defocus_blur_range() -> None:
    pairs = [(op.radius, op.alias_sigma) for op in draws_of("defocus_blur") if isinstance(op, DefocusBlur)]
    assert set(pairs) == {(3, 0.1), (4, 0.5), (6, 0.5)}
    for pair in set(pairs):
        assert_fraction(pairs.count(pair), 1 / 3, DRAWS)


def test_rain_range() -> None:
    drawn = [op for op in draws_of("rain") if isinstance(op, Rain)]
    assert_whole([op.amount for op in drawn], 50, 100)
    assert_whole([op.length for op in drawn], 20, 40)
    assert_whole([op.angle for op in drawn], -30, 30)


def test_haze_range() -> None:
    drawn = [op for op in draws_of("haze") if isinstance(op, Haze)]
    assert_uniform([op.airlight for op in drawn], 0.7, 1)
    assert_uniform([op.beta for op in drawn], 0.6, 1.8)


def test_jpeg_range() -> None:
    drawn = [op for op in draws_of("jpeg") if isinstance(op, Jpeg)]
    assert all(type(op.quality) is int for op in drawn)
    assert_whole([op.quality for op in drawn], 10, 30)


def test_low_light_range() -> None:
    drawn = [op for op in draws_of("low_light") if isinstance(op, LowLight)]
    amounts = {
        kind: [op.amount for op in drawn if op.kind == kind] for kind in ("shift", "gamma", "linear")
    }
    assert sum(map(len, amounts.values())) == DRAWS
    for values in amounts.values():
        assert_fraction(len(values), 1 / 3, DRAWS)
    assert_whole(amounts["shift"], 30, 50)
    assert_uniform(amounts["gamma"], 0.5, 0.7)
    assert_whole(amounts["linear"], 100, 150)


def test_low_resolution_has_no_parameter() -> None:
    assert set(draws_of("low_resolution")) == {LowResolution()}


def test_registry_is_the_eight_of_the_table() -> None:
    eight = ["noise", "motion_blur", "defocus_blur", "rain", "haze", "jpeg", "low_resolution", "low_light"]
    assert sorted(DEGRADATIONS) == sorted(DEGRADATION_CLASSES) == sorted(eight)
    for name, operator in DEGRADATION_CLASSES.items():
        assert operator.name == name


# ---- the slow reference ------------------------------------------------------------------------


@steady
@given(images, seeds)
def test_gaussian_noise_equals_reference(image: Uint8Image, seed: int) -> None:
    level = float(default_rng(seed).uniform(20, 50))
    fast = Noise("gaussian", level)(image, default_rng(seed))
    normal = default_rng(seed).standard_normal(image.shape, np.float32)
    assert max_abs_difference(fast, slow.gaussian_noise(image, level, normal)) <= 1


@steady
@given(images, seeds)
def test_poisson_noise_equals_reference(image: Uint8Image, seed: int) -> None:
    level = float(default_rng(seed).uniform(1, 3))
    fast = Noise("poisson", level)(image, default_rng(seed))
    assert max_abs_difference(fast, slow.poisson_noise(image, level, default_rng(seed))) <= 1


@steady
@given(images, seeds)
def test_motion_blur_equals_reference(image: Uint8Image, seed: int) -> None:
    op = MotionBlur.draw(default_rng(seed))
    assert (
        max_abs_difference(
            op(image, default_rng(0)), slow.motion_blur(image, op.radius, op.sigma, op.angle)
        )
        <= 1
    )


@pytest.mark.parametrize(("radius", "sigma"), MotionBlur.SEVERITIES)
def test_motion_blur_at_round_angles(radius: int, sigma: float) -> None:
    image = small_image(1)
    for angle in (-90, -45, -30, 0, 30, 45, 60, 89.999):
        fast = MotionBlur(radius, sigma, angle)(image, default_rng(0))
        assert max_abs_difference(fast, slow.motion_blur(image, radius, sigma, angle)) <= 1, angle


@steady
@given(images, st.sampled_from(DefocusBlur.SEVERITIES))
def test_defocus_blur_equals_reference(image: Uint8Image, choice: tuple[int, float]) -> None:
    assert (
        max_abs_difference(DefocusBlur(*choice)(image, default_rng(0)), slow.defocus_blur(image, *choice))
        <= 1
    )


@steady
@given(images, seeds)
def test_rain_equals_reference(image: Uint8Image, seed: int) -> None:
    op = Rain.draw(default_rng(seed))
    uniform = default_rng(seed).uniform(0, 256, image.shape[:2])
    fast = op(image, default_rng(seed))
    assert max_abs_difference(fast, slow.rain(image, uniform, op.amount, op.kernel())) <= 1
    # Image warpers place the line on a grid of 1/32 pixel, the reference does not.
    exact = slow.rain(image, uniform, op.amount, slow.rain_kernel(op.length, op.angle))
    assert max_abs_difference(fast, exact) <= 12
    assert np.abs(fast.astype(int) - exact).mean() < 0.8


@pytest.mark.parametrize("length", [20, 25, 39])
def test_rain_kernel_equals_reference(length: int) -> None:
    for angle in (-30, -11, 0, 17, 29):
        fast, expected = Rain(50, length, angle).kernel(), slow.rain_kernel(length, angle)
        np.testing.assert_allclose(fast, expected, atol=0.02, err_msg=f"angle {angle}")


@steady
@given(images, seeds)
def test_haze_equals_reference(image: Uint8Image, seed: int) -> None:
    op = Haze.draw(default_rng(seed))
    depth = default_rng(seed).random(image.shape[:2], np.float32)
    fast = op(image, default_rng(0), depth)
    assert max_abs_difference(fast, slow.haze(image, op.airlight, op.beta, depth)) <= 1


@steady
@given(images, seeds)
def test_haze_uses_procedural_depth_without_a_map(image: Uint8Image, seed: int) -> None:
    op = Haze.draw(default_rng(seed))
    depth = procedural_depth(image, default_rng(seed))
    assert (
        max_abs_difference(op(image, default_rng(seed)), slow.haze(image, op.airlight, op.beta, depth)) <= 1
    )


@steady
@given(images, seeds)
def test_haze_averages_the_depth_of_a_shrunken_image(image: Uint8Image, seed: int) -> None:
    op, shrunken = Haze.draw(default_rng(seed)), LowResolution()(image, default_rng(0))
    depth = default_rng(seed).random(image.shape[:2], np.float32)
    blocks = depth.reshape(10, 4, 12, 4).mean(axis=(1, 3))
    fast, applied = degrade(image, ("low_resolution", "haze"), default_rng(seed), depth)
    assert applied == (LowResolution(), op)
    assert max_abs_difference(fast, slow.haze(shrunken, op.airlight, op.beta, blocks)) <= 1


@steady
@given(images, st.integers(10, 29))
def test_jpeg_agrees_with_another_codec(image: Uint8Image, quality: int) -> None:
    fast, other = Jpeg(quality)(image, default_rng(0)), slow.jpeg(image, quality)
    assert fast.shape == image.shape
    # The same tables; other builds may differ in how they round and how they enlarge chroma.
    assert np.abs(fast.astype(int) - other).mean() < 0.5


@steady
@given(images)
def test_low_resolution_equals_reference(image: Uint8Image) -> None:
    assert max_abs_difference(LowResolution()(image, default_rng(0)), slow.low_resolution(image)) <= 1


@pytest.mark.parametrize("shape", [(4, 4), (8, 128), (41, 46), (6, 3)])
def test_low_resolution_equals_reference_at_odd_sizes(shape: tuple[int, int]) -> None:
    image = small_image(5, *shape)
    fast = LowResolution()(image, default_rng(0))
    assert fast.shape == (math.ceil(shape[0] / 4), math.ceil(shape[1] / 4), 3)
    assert max_abs_difference(fast, slow.low_resolution(image)) <= 1


@steady
@given(images, seeds)
def test_low_light_equals_reference(image: Uint8Image, seed: int) -> None:
    op = LowLight.draw(default_rng(seed))
    assert max_abs_difference(op(image, default_rng(0)), slow.low_light(image, op.kind, op.amount)) <= 1


@pytest.mark.parametrize("op", [LowLight("shift", 30), LowLight("gamma", 0.6), LowLight("linear", 149)])
@pytest.mark.parametrize("seed", range(4))
def test_low_light_of_each_kind(op: LowLight, seed: int) -> None:
    image = small_image(seed)
    assert max_abs_difference(op(image, default_rng(0)), slow.low_light(image, op.kind, op.amount)) <= 1


# ---- what the numbers mean ---------------------------------------------------------------------


@pytest.mark.parametrize("level", [20.0, 30.0, 40.0, 50.0])
def test_gaussian_noise_has_the_stated_deviation(level: float) -> None:
    noise = Noise("gaussian", level)(grey(), default_rng(1)).astype(float) - 128
    assert noise.std() == pytest.approx(level, rel=0.01 if level < 50 else 0.02)  # 50 clips 1 %
    assert abs(noise.mean()) < 0.5
    channels = np.corrcoef(noise.reshape(-1, 3).T)
    assert np.abs(channels - np.eye(3)).max() < 0.02
    assert abs(np.corrcoef(noise[:, :-1].ravel(), noise[:, 1:].ravel())[0, 1]) < 0.02


def shades(levels: int, low: int, side: int = 256) -> Uint8Image:
    """Uses exactly ``levels`` grey levels from ``low`` on, each about equally often."""
    ramp = low + np.arange(side * side * 3) % levels
    return default_rng(0).permutation(ramp).reshape(side, side, 3).astype(np.uint8)


@pytest.mark.parametrize(
    ("levels", "white", "scale"),
    [(4, 4, 0.1), (64, 64, 1.0), (65, 128, 1.0), (200, 256, 1.0), (200, 256, 2.5)],
)
def test_poisson_noise_has_the_stated_variance(levels: int, white: int, scale: float) -> None:
    image = shades(levels, low=128 - levels // 2)
    assert slow.photons(image) == white
    noisy = Noise("poisson", scale)(image, default_rng(2)).astype(float)
    # Per grey level: the variance of a count is its mean, and scale multiplies the deviation.
    middle = (image >= 110) & (image < 146)
    noise, clean = (noisy - image)[middle], image[middle] / 255
    expected = (255 * scale) ** 2 * (clean / white).mean() + 1 / 12
    assert noise.var() == pytest.approx(expected, rel=0.05)
    assert abs(noise.mean()) < 4 * noise.std() / math.sqrt(noise.size)


def test_poisson_noise_grows_with_brightness() -> None:
    image = shades(200, low=28)
    noise = Noise("poisson", 1.0)(image, default_rng(3)).astype(float) - image
    dark, bright = noise[image < 60].var(), noise[(image > 150) & (image < 190)].var()
    assert bright / dark == pytest.approx(170 / 43.5, rel=0.1)


def test_motion_blur_has_one_direction_and_falling_weights() -> None:
    image = np.zeros((81, 81, 3), np.uint8)
    image[40, 40] = 255
    across = MotionBlur(10, 3, 0.0)(image, default_rng(0))[..., 0]
    assert set(np.nonzero(across)[0]) == {40}
    assert np.nonzero(across)[1].max() == 40  # content moves one way only
    streak = across[40, 40::-1].astype(int)
    assert streak[0] == streak.max() and (np.diff(streak) <= 0).all() and streak[1] > 0
    along = MotionBlur(10, 3, 90.0)(image, default_rng(0))[..., 0]
    assert set(np.nonzero(along)[1]) == {40}
    assert max_abs_difference(across, along.T.copy()) <= 1


@pytest.mark.parametrize("angle", [-75.0, -33.0, 12.0, 58.0])
def test_motion_blur_kernel_points_where_the_angle_says(angle: float) -> None:
    kernel = MotionBlur(15, 8, angle).kernel().astype(float)
    assert kernel.shape == (61, 61)
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    down, right = np.indices(kernel.shape) - 30
    toward = math.degrees(math.atan2((kernel * down).sum(), (kernel * right).sum()))
    assert toward == pytest.approx(angle, abs=2)


@pytest.mark.parametrize("choice", DefocusBlur.SEVERITIES)
def test_defocus_kernel_is_the_disk(choice: tuple[int, float]) -> None:
    kernel = DefocusBlur(*choice).kernel()
    np.testing.assert_allclose(kernel, slow.disk_kernel(*choice), atol=1e-6)
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(kernel, kernel.T, atol=1e-7)
    np.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-7)


@pytest.mark.parametrize("angle", [-30, -14, 0, 9, 29])
@pytest.mark.parametrize("length", [20, 31, 39])
def test_rain_falls_at_the_stated_angle(length: int, angle: int) -> None:
    kernel = Rain(50, length, angle).kernel()
    assert kernel.shape == (length, length)
    y, x = np.indices(kernel.shape).astype(float)
    y, x = y - (kernel * y).sum() / kernel.sum(), x - (kernel * x).sum() / kernel.sum()
    yy, xx, xy = ((kernel * p).sum() for p in (y * y, x * x, x * y))
    # From the vertical, anticlockwise: a positive angle leans to the right as it falls.
    lean = 0.5 * math.degrees(math.atan2(2 * xy, yy - xx))
    assert lean == pytest.approx(angle, abs=3)
    assert yy + xx > 20 * (yy + xx - math.hypot(yy - xx, 2 * xy))  # long and thin


def test_rain_has_as_many_drops_as_stated() -> None:
    shape = (512, 512)
    for amount in (50, 99):
        drops = default_rng(4).uniform(0, 256, shape)
        expected = shape[0] * shape[1] * amount / 25600
        assert abs((drops >= 256 - 0.01 * amount).sum() - expected) < 4 * math.sqrt(expected)
    light, heavy = (Rain(n, 20, 0).streaks(shape, default_rng(4)).mean() for n in (50, 99))
    assert heavy > 1.5 * light


def test_rain_only_brightens_and_is_grey() -> None:
    image = grey(100, side=128)
    added = Rain(99, 30, 10)(image, default_rng(5)).astype(int) - image
    assert added.min() == 0
    assert added.max() == 155  # the layer reaches 255 and the sum is clipped
    assert (added[..., 0] == added[..., 1]).all() and (added[..., 0] == added[..., 2]).all()
    layer = Rain(99, 30, 10).streaks((128, 128), default_rng(5))
    assert layer.dtype == np.uint8 and layer.min() == 0 and layer.max() >= 254


def test_haze_at_the_ends_of_its_range() -> None:
    image, op = small_image(1), Haze(0.8, 1.0)
    near = op(image, default_rng(0), np.zeros((40, 48), np.float32))
    assert max_abs_difference(near, image) == 0
    far = op(image, default_rng(0), np.full((40, 48), 1e3, np.float32))
    assert (far == 204).all()


@pytest.mark.parametrize("kind", ["shift", "gamma", "linear"])
def test_low_light_keeps_hue_and_orders_values(kind: str) -> None:
    op = LowLight(kind, {"shift": 40, "gamma": 0.5, "linear": 120}[kind])
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    dark = op(ramp, default_rng(0))[0, :, 0].astype(int)
    assert (np.diff(dark) >= 0).all() and (dark <= np.arange(256)).all()
    if kind == "shift":
        assert (dark == np.maximum(np.arange(256) - 40, 0)).all()
    elif kind == "gamma":
        assert (dark == np.rint(255 * (np.arange(256) / 255) ** 2)).all()
    else:
        assert dark.max() == 120 and dark[0] == 0
    orange = np.tile(np.array([240, 160, 80], np.uint8), (8, 8, 1))
    orange[0, 0] = 0  # gives the linear map a range
    r, g, b = op(orange, default_rng(0))[4, 4].astype(float)
    assert g / r == pytest.approx(2 / 3, abs=0.01) and b / r == pytest.approx(1 / 3, abs=0.01)


@pytest.mark.parametrize("op", [LowLight("shift", 40), LowLight("gamma", 0.6), LowLight("linear", 120)])
def test_low_light_is_close_to_the_benchmarks_8_bit_hsv(op: LowLight) -> None:
    image = data.coffee()[100:228, 200:328]
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    hsv[..., 2] = np.rint(op.darken(hsv[..., 2].astype(float)))
    rounded = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB).astype(int)
    assert np.abs(op(image, default_rng(0)) - rounded).mean() < 1


def test_jpeg_loses_more_at_lower_quality() -> None:
    image = data.chelsea()[80:208, 120:248]
    results = [Jpeg(quality)(image, default_rng(0)) for quality in (10, 15, 20, 29)]
    losses = [np.square(result.astype(float) - image).mean() for result in results]
    assert losses == sorted(losses, reverse=True) and losses[-1] > 5


def test_jpeg_keeps_the_channels_in_order() -> None:
    red = np.tile(np.array([200, 40, 40], np.uint8), (16, 16, 1))
    assert max_abs_difference(Jpeg(29)(red, default_rng(0)), red) <= 12
