"""What the encoder is given beside pixels, and that it takes any size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from opera_env.degradations import degrade
from opera_env.encoder import WINDOW, Detector, ImageEncoder, intensity_histogram, log_power_spectrum


def _photograph(side: int = 128) -> Tensor:
    """Blobs of all sizes, float32 (1, 3, side, side)."""
    rng = np.random.default_rng(0)
    image = sum(
        np.kron(rng.random((side // size, side // size, 3)), np.ones((size, size, 1)))
        for size in (2, 8, 32)
    )
    return torch.from_numpy(np.asarray(image) / 3).float().permute(2, 0, 1)[None]


def _damaged(name: str) -> Tensor:
    image = (_photograph()[0].permute(1, 2, 0) * 255).byte().numpy()
    dirty, _ = degrade(image, (name,), np.random.default_rng(3))
    return torch.from_numpy(dirty).permute(2, 0, 1)[None].float() / 255


@pytest.mark.parametrize("size", [(16, 16), (64, 64), (37, 201), (128, 96)])
def test_any_size_is_described_and_has_gradients(size: tuple[int, int]) -> None:
    images = torch.rand(2, 3, *size, requires_grad=True)
    seen = ImageEncoder()(images)
    assert seen.shape == (2, 256) and seen.isfinite().all()
    seen.sum().backward()
    assert images.grad is not None and images.grad.isfinite().all() and images.grad.abs().sum() > 0


def test_a_batch_is_described_image_by_image() -> None:
    torch.manual_seed(0)
    encoder, images = ImageEncoder(), torch.cat([_photograph(), _damaged("haze"), _damaged("noise")])
    alone = torch.cat([encoder(image[None]) for image in images])
    torch.testing.assert_close(encoder(images), alone, rtol=1e-4, atol=1e-5)


def test_motion_blur_shows_a_direction_and_defocus_shows_none() -> None:
    def uneven(images: Tensor) -> float:
        power = log_power_spectrum(images)[0]
        middle = WINDOW // 2
        ring = power[middle - 12 : middle + 13, 1:13]  # as far up and down as to the right
        return (ring[12, 4:].mean() - ring[[0, 1, 2, -3, -2, -1], 0].mean()).abs().item()

    kernel = torch.zeros(1, 1, 1, 21).fill_(1 / 21)
    grey = _photograph().mean(1, keepdim=True)
    moved = torch.nn.functional.conv2d(grey, kernel, padding="same").expand(-1, 3, -1, -1)
    assert uneven(moved) > 2 * uneven(_photograph())
    assert uneven(moved) > 2 * uneven(_damaged("defocus_blur"))


def test_noise_lifts_the_highest_frequencies() -> None:
    corner = log_power_spectrum(torch.cat([_damaged("defocus_blur"), _damaged("noise")]))[:, :4, -4:].mean(
        (1, 2)
    )
    assert corner[1] > corner[0] + 0.5


def test_brightness_tells_low_light_and_haze() -> None:
    clean, dark, hazy = (
        intensity_histogram(image)[0] for image in (_photograph(), _damaged("low_light"), _damaged("haze"))
    )
    brightest, darkest = slice(0, 64), slice(64, 128)
    assert dark[brightest].sum() > clean[brightest].sum()  # more pixels below each level
    assert hazy[darkest].sum() < clean[darkest].sum()
    assert (clean.diff()[:63] >= 0).all() and clean[63] == pytest.approx(1)


def test_brightness_counts_what_lies_outside() -> None:
    assert intensity_histogram(torch.full((1, 3, 8, 8), 1.5))[0, 63] == 1
    assert intensity_histogram(torch.full((1, 3, 8, 8), -0.5))[0, 0] == 1


def test_a_small_image_is_continued_not_stretched() -> None:
    assert log_power_spectrum(torch.rand(1, 3, 20, 30)).shape == (1, WINDOW, WINDOW // 2 + 1)


def test_the_detector_says_odds_of_each_label() -> None:
    assert Detector(8)(torch.rand(3, 3, 40, 40)).shape == (3, 8)
