"""ImageEncoder and Detector: sizes, gradients, and the spectra and histograms they use."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from opera_env.degradations import degrade
from opera_env.encoder import (
    SPECTRUM_WINDOW,
    Detector,
    ImageEncoder,
    encode_by_size,
    intensity_histogram,
    log_power_spectrum,
)


def _photograph(side: int = 128) -> Tensor:
    """Blobs of all sizes, float32 (1, 3, side, side)."""
    rng = np.random.default_rng(0)
    image = sum(
        np.kron(rng.random((side // size, side // size, 3)), np.ones((size, size, 1)))
        for size in (2, 8, 32)
    )
    return torch.from_numpy(np.asarray(image) / 3).float().permute(2, 0, 1)[None]


def _degraded(name: str) -> Tensor:
    image = (_photograph()[0].permute(1, 2, 0) * 255).byte().numpy()
    degraded, _ = degrade(image, (name,), np.random.default_rng(3))
    return torch.from_numpy(degraded).permute(2, 0, 1)[None].float() / 255


@pytest.mark.parametrize("size", [(16, 16), (64, 64), (37, 201), (128, 96)])
def test_any_size_has_features_and_gradients(size: tuple[int, int]) -> None:
    images = torch.rand(2, 3, *size, requires_grad=True)
    features = ImageEncoder()(images)
    assert features.shape == (2, 256) and features.isfinite().all()
    features.sum().backward()
    assert images.grad is not None and images.grad.isfinite().all() and images.grad.abs().sum() > 0


def test_features_do_not_depend_on_the_batch() -> None:
    torch.manual_seed(0)
    encoder, images = ImageEncoder(), torch.cat([_photograph(), _degraded("haze"), _degraded("noise")])
    alone = torch.cat([encoder(image[None]) for image in images])
    torch.testing.assert_close(encoder(images), alone, rtol=1e-4, atol=1e-5)


def test_the_spectrum_of_motion_blur_has_a_direction() -> None:
    def anisotropy(images: Tensor) -> float:
        power = log_power_spectrum(images)[0]
        middle = SPECTRUM_WINDOW // 2
        ring = power[middle - 12 : middle + 13, 1:13]  # frequencies of equal magnitude in both directions
        return (ring[12, 4:].mean() - ring[[0, 1, 2, -3, -2, -1], 0].mean()).abs().item()

    kernel = torch.zeros(1, 1, 1, 21).fill_(1 / 21)
    grey = _photograph().mean(1, keepdim=True)
    moved = torch.nn.functional.conv2d(grey, kernel, padding="same").expand(-1, 3, -1, -1)
    assert anisotropy(moved) > 2 * anisotropy(_photograph())
    assert anisotropy(moved) > 2 * anisotropy(_degraded("defocus_blur"))


def test_noise_raises_the_highest_frequencies() -> None:
    corner = log_power_spectrum(torch.cat([_degraded("defocus_blur"), _degraded("noise")]))[
        :, :4, -4:
    ].mean((1, 2))
    assert corner[1] > corner[0] + 0.5


def test_histograms_distinguish_low_light_and_haze() -> None:
    clean, dark, hazy = (
        intensity_histogram(image)[0]
        for image in (_photograph(), _degraded("low_light"), _degraded("haze"))
    )
    brightest, darkest = slice(0, 64), slice(64, 128)
    assert dark[brightest].sum() > clean[brightest].sum()  # more pixels below each level
    assert hazy[darkest].sum() < clean[darkest].sum()
    assert (clean.diff()[:63] >= 0).all() and clean[63] == pytest.approx(1)


def test_histograms_count_values_outside_of_the_range() -> None:
    assert intensity_histogram(torch.full((1, 3, 8, 8), 1.5))[0, 63] == 1
    assert intensity_histogram(torch.full((1, 3, 8, 8), -0.5))[0, 0] == 1


def test_a_small_image_is_padded_to_a_window() -> None:
    assert log_power_spectrum(torch.rand(1, 3, 20, 30)).shape == (
        1,
        SPECTRUM_WINDOW,
        SPECTRUM_WINDOW // 2 + 1,
    )


def test_the_detector_returns_one_logit_per_label() -> None:
    assert Detector(8)(torch.rand(3, 3, 40, 40)).shape == (3, 8)


def test_encode_by_size_equals_one_image_at_a_time() -> None:
    sizes = [(8, 8), (8, 12), (8, 8), (8, 8), (8, 12)]
    images = [torch.rand(3, *size) for size in sizes]
    batches: list[int] = []

    def encode(batch: Tensor) -> Tensor:
        batches.append(len(batch))
        return batch.mean((2, 3))

    expected = torch.stack([image.mean((1, 2)) for image in images])
    torch.testing.assert_close(encode_by_size(encode, images, torch.device("cpu")), expected)
    assert batches == [3, 2]
    batches.clear()
    bounded = encode_by_size(encode, images, torch.device("cpu"), max_batch_pixels=2 * 64)
    torch.testing.assert_close(bounded, expected)
    assert batches == [2, 1, 1, 1]
