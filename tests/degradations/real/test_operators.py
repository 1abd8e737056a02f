"""Every degradation of real photographs: seeded, pure, of its size, weak at 0 and worse with strength."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from numpy.random import default_rng

from opera_env.degradations import Degradation, degrade, merge_degradations, training_recipes
from opera_env.degradations.real import (
    REAL_DEGRADATIONS,
    REAL_LABELS,
    DepthHaze,
    HandShake,
    Misfocus,
    Processing,
    Rainfall,
    RealDegradation,
    Resampling,
    SensorNoise,
    Underexposure,
    WebCompression,
)
from opera_env.errors import SampleError
from tests.degradations.images import Uint8Image, astronaut, small_image

KINDS: tuple[type[RealDegradation], ...] = (
    DepthHaze,
    Rainfall,
    Misfocus,
    HandShake,
    Underexposure,
    SensorNoise,
    Processing,
    Resampling,
    WebCompression,
)
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)

# Mean, deviation and mean absolute change at strength 0.6, seed 0. The tolerance of 0.25 grey levels lets
# other builds of OpenCV, libjpeg and libwebp pass.
GOLDEN: dict[type[RealDegradation], tuple[float, float, float]] = {
    DepthHaze: (170.27, 29.45, 30.94),
    Rainfall: (142.42, 50.68, 3.28),
    Misfocus: (141.20, 51.78, 7.20),
    HandShake: (141.12, 51.99, 7.76),
    Underexposure: (92.78, 60.37, 47.03),
    SensorNoise: (139.48, 55.76, 5.08),
    Processing: (139.84, 59.34, 5.24),
    Resampling: (139.61, 52.36, 7.72),
    WebCompression: (139.86, 54.62, 4.93),
}


def photograph(side: int = 64) -> Uint8Image:
    return np.ascontiguousarray(astronaut()[:side, 170 : 170 + side])


def psnr(first: Uint8Image, second: Uint8Image) -> float:
    return float(10 * np.log10(255**2 / max(float(np.mean((first - second.astype(float)) ** 2)), 1e-3)))


def test_all_degradations_are_tested_and_have_the_labels_of_the_rule() -> None:
    assert REAL_DEGRADATIONS == KINDS
    assert tuple(kind.name for kind in KINDS) == REAL_LABELS
    assert all(isinstance(kind(0.5), Degradation) for kind in KINDS)


@every_kind
def test_equal_generators_give_equal_images_and_nothing_else_matters(kind: type[RealDegradation]) -> None:
    image = photograph()
    before = image.copy()
    image.flags.writeable = False
    first = kind(0.7)(image, default_rng(1))
    np.random.seed(3)  # noqa: NPY002 - a degradation must neither use nor change it
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    again = kind(0.7)(image, default_rng(1))
    assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    other = kind(0.7)(image, default_rng(2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert np.array_equal(image, before), "the input must not change"


@every_kind
@pytest.mark.parametrize("size", [(4, 4), (40, 52)])
def test_the_result_is_an_image_of_the_same_size(
    kind: type[RealDegradation], size: tuple[int, int]
) -> None:
    for seed, strength in enumerate((0.0, 0.3, 0.6, 1.0)):
        result = kind(strength)(small_image(seed, *size), default_rng(seed))
        assert result.dtype == np.uint8 and result.shape == (*size, 3)


@every_kind
def test_flat_black_and_white_images_stay_images(kind: type[RealDegradation]) -> None:
    for level in (0, 255):
        for seed in range(4):
            result = kind(1.0)(np.full((24, 24, 3), level, np.uint8), default_rng(seed))
            assert result.shape == (24, 24, 3)


@every_kind
def test_strength_is_barely_visible_at_0_and_grows(kind: type[RealDegradation]) -> None:
    """By PSNR to the photograph: at 0 at least 29 dB each time, and on average lower with every step."""
    image, seeds = photograph(), range(6)
    by_strength = [
        [psnr(image, kind(strength)(image, default_rng(seed))) for seed in seeds]
        for strength in (0.0, 0.35, 0.7, 1.0)
    ]
    assert min(by_strength[0]) > 29
    means = np.mean(by_strength, axis=1)
    assert (np.diff(means) < -0.5).all(), means
    assert means[-1] < 30


@every_kind
def test_drawn_strengths_are_visible_and_cover_the_range(kind: type[RealDegradation]) -> None:
    rng = default_rng(0)
    strengths = [kind.draw(rng).strength for _ in range(300)]
    assert 0.15 <= min(strengths) < 0.2 and 0.95 < max(strengths) <= 1


@every_kind
@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
def test_a_strength_outside_its_range_is_refused(kind: type[RealDegradation], strength: float) -> None:
    with pytest.raises(SampleError, match=r"expected a strength in \[0, 1\]"):
        kind(strength)


@every_kind
def test_golden_statistics(kind: type[RealDegradation]) -> None:
    image = photograph(96)
    result = kind(0.6)(image, default_rng(0)).astype(float)
    found = (result.mean(), result.std(), np.abs(result - image).mean())
    assert found == pytest.approx(GOLDEN[kind], abs=0.25)


def test_small_images_stay_small() -> None:
    assert Resampling(1.0, small=True)(photograph(), default_rng(0)).shape == (16, 16, 3)
    rng = default_rng(0)
    small = sum(Resampling.draw(rng).small for _ in range(500)) / 500
    assert small == pytest.approx(0.4, abs=0.07)


def test_haze_has_the_depth_that_is_given() -> None:
    image = np.zeros((32, 32, 3), np.uint8)
    depth = np.zeros((32, 32), np.float32)
    depth[:16] = 1
    hazy = DepthHaze(0.7)(image, default_rng(0), depth)
    assert hazy[:16].min() > hazy[16:].max() > 0


def test_black_stays_black_in_little_light() -> None:
    dark = Underexposure(1.0)(np.zeros((32, 32, 3), np.uint8), default_rng(0))
    assert dark.mean() < 12


def test_noise_is_stronger_in_shadows_and_correlated() -> None:
    """As grey levels are not in proportion to light, and demosaicking interpolates."""
    grey = np.full((64, 64, 3), 40, np.uint8)
    grey[:, 32:] = 200
    noise = SensorNoise(0.6)(grey, default_rng(1)).astype(float) - grey
    assert noise[:, :32].std() > 1.3 * noise[:, 32:].std()
    shadows = noise[:, :32, 1] - noise[:, :32, 1].mean()
    assert (shadows[:, 1:] * shadows[:, :-1]).mean() > 0.1 * shadows.var()


def test_they_can_replace_the_built_in_ones() -> None:
    merged = merge_degradations(REAL_DEGRADATIONS)
    assert set(merged) == set(REAL_LABELS)
    assert ("haze", "over_processed") in training_recipes(2, merged.values())
    result, applied = degrade(photograph(), ("rain", "jpeg"), default_rng(0), degradations=merged)
    assert result.shape == (64, 64, 3)
    assert [type(degradation) for degradation in applied] == [Rainfall, WebCompression]


def test_a_sequence_of_draws_is_always_the_same() -> None:
    digest = hashlib.sha256()
    rng = default_rng(0)
    for kind in KINDS:
        digest.update(np.float64([kind.draw(rng).strength for _ in range(20)]).tobytes())
    assert digest.hexdigest()[:16] == "505d4f6312e71fd3"
