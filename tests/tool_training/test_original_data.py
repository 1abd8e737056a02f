"""Training data like those of published networks: seeded, of the right size, and unlike the benchmark's."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from opera_env.degradations import degrade
from opera_env.degradations.base import Uint8Image
from opera_env.degradations.camera import Jpeg
from opera_env.tool_training.lite_tools import LITE_TOOLS
from opera_env.tool_training.original_data import (
    CameraShake,
    GaussianNoise,
    IndependentHaze,
    LayeredRain,
    LensBlur,
    RandomCascade,
    VeiledRain,
    aperture_kernel,
    line_kernel,
)
from opera_env.tool_training.patches import DegradeFn

ALL = [
    GaussianNoise(0, 55),
    LayeredRain(),
    VeiledRain(),
    IndependentHaze(),
    LensBlur(),
    CameraShake(),
    RandomCascade(),
]
every_kind = pytest.mark.parametrize("data", ALL, ids=lambda data: type(data).__name__)


@pytest.fixture(scope="module")
def image() -> Uint8Image:
    noise = np.random.default_rng(0).integers(0, 256, (96, 128, 3)).astype(np.uint8)
    return np.asarray(cv2.GaussianBlur(noise, (0, 0), 2), np.uint8)


@every_kind
def test_equal_generators_give_equal_images(data: DegradeFn, image: Uint8Image) -> None:
    before = image.copy()
    first, again, other = (data(image, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.array_equal(image, before), "the input must not change"


@every_kind
def test_the_result_is_an_image_of_the_expected_size(data: DegradeFn, image: Uint8Image) -> None:
    factor = 4 if isinstance(data, RandomCascade) else 1
    for seed in range(20):
        result = data(image, np.random.default_rng(seed))
        assert result.dtype == np.uint8
        assert result.shape == (96 // factor, 128 // factor, 3)


@pytest.mark.parametrize("sigma", [15, 25, 50])
def test_gaussian_noise_has_its_standard_deviation(sigma: float) -> None:
    grey = np.full((128, 128, 3), 128, np.uint8)
    noisy = GaussianNoise(sigma, sigma)(grey, np.random.default_rng(0)).astype(float)
    assert noisy.std() == pytest.approx(sigma, rel=0.03)


@pytest.mark.parametrize("rain", [LayeredRain(), VeiledRain()], ids=lambda rain: type(rain).__name__)
def test_rain_brightens_a_dark_image_and_leaves_most_of_it(rain: DegradeFn) -> None:
    dark = np.full((128, 128, 3), 20, np.uint8)
    for seed in range(10):
        change = rain(dark, np.random.default_rng(seed)).astype(int) - 20
        assert change.min() >= -1
        assert change.max() > 30
        assert np.quantile(change, 0.25) < 40


def test_veiled_rain_is_translucent_and_layered_rain_is_added() -> None:
    """On a white image translucent drops are darker than it; added drops cannot be seen."""
    white = np.full((128, 128, 3), 255, np.uint8)
    assert LayeredRain()(white, np.random.default_rng(0)).min() == 255
    assert VeiledRain()(white, np.random.default_rng(0)).min() < 255


def test_haze_does_not_follow_the_picture() -> None:
    """Left and right half differ in colour; the transmission has no step between them."""
    halves = np.zeros((64, 64, 3), np.uint8)
    halves[:, 32:] = 200
    hazy = IndependentHaze((0.9, 0.9), (1.0, 1.0))(halves, np.random.default_rng(3)).astype(float)
    airlight = 0.9 * 255
    transmission = (hazy[:, 32, 0] - airlight) / (200 - airlight)
    beside = 1 - hazy[:, 31, 0] / airlight
    assert np.abs(transmission - beside).max() < 0.1


def test_lens_blur_varies_over_the_image() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3)).astype(np.uint8)
    contrasts = []
    for seed in range(5):
        blurred = LensBlur()(noise, np.random.default_rng(seed)).astype(float)
        blocks = blurred.reshape(4, 32, 4, 32, 3).std(axis=(1, 3, 4))
        contrasts.append(blocks.max() / blocks.min())
    assert max(contrasts) > 1.5


def test_the_path_of_camera_shake_is_curved_and_its_length_varies() -> None:
    kernels = [CameraShake().kernel(np.random.default_rng(seed)) for seed in range(50)]
    assert all(kernel.sum() == pytest.approx(1, abs=1e-5) for kernel in kernels)
    assert all(kernel.shape[0] % 2 == 1 and kernel.shape[0] == kernel.shape[1] for kernel in kernels)
    assert len({kernel.shape for kernel in kernels}) > 5
    ratios = []
    for kernel in kernels:
        y, x = np.nonzero(kernel > 0)
        weights = kernel[y, x]
        spread = np.linalg.eigvalsh(np.cov(np.stack([y, x]), aweights=weights))
        ratios.append(spread[0] / spread[1])
    assert np.quantile(ratios, 0.9) > 0.1, "some paths must bend"


@pytest.mark.parametrize("blades", [5, 7, 12])
def test_an_aperture_has_its_radius(blades: int) -> None:
    kernel = aperture_kernel(6.0, blades, 0.3, 0.5)
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    area = (kernel > kernel.max() / 2).sum()
    assert area == pytest.approx(np.pi * 6**2, rel=0.2)
    assert aperture_kernel(0.0, blades, 0.0, 0.3).max() > 0.9


def test_a_line_has_its_direction() -> None:
    upright, flat = line_kernel(15, 0, 0.6), line_kernel(15, 90, 0.6)
    assert upright.sum(axis=1).astype(bool).sum() >= 15
    assert np.allclose(upright, flat.T, atol=1e-6)


def test_no_tool_of_lite_is_trained_on_a_degradation_of_the_benchmark(image: Uint8Image) -> None:
    """The two exceptions are published as they are: bicubic reduction, and JPEG at one quality."""
    for spec in LITE_TOOLS:
        if not spec.steps or spec.name == "unet.super_resolution":
            continue
        assert spec.training_data is not None
        benchmark = [degrade(image, (spec.degradation,), np.random.default_rng(s))[0] for s in range(5)]
        own = [spec.degrade(image, np.random.default_rng(s)) for s in range(5)]
        assert not any(np.array_equal(a, b) for a, b in zip(own, benchmark, strict=True)), spec.name
    jpeg = {spec.name: spec.training_data for spec in LITE_TOOLS}["unet.dejpeg"]
    assert isinstance(jpeg, Jpeg)
    assert jpeg.quality == 40
