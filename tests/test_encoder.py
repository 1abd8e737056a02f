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
    WindowedEncoder,
    encode_by_size,
    full_resolution_windows,
    intensity_histogram,
    log_power_spectrum,
    make_encoder,
    reduce_to_overview,
)
from opera_env.errors import AgentError


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


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((40, 60), (1, 40, 60)),
        ((128, 128), (1, 128, 128)),
        ((129, 128), (2, 128, 128)),
        ((256, 300), (6, 128, 128)),
    ],
)
def test_windows_cover_a_small_image(size: tuple[int, int], expected: tuple[int, int, int]) -> None:
    rows, columns = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    images = torch.stack([rows, columns, rows])[None].float()
    windows = full_resolution_windows(images)
    assert (windows.shape[1], *windows.shape[-2:]) == expected
    seen = set(zip(windows[0, :, 0].flatten().tolist(), windows[0, :, 1].flatten().tolist(), strict=True))
    assert len(seen) == size[0] * size[1], "every pixel is in a window"


def test_windows_of_a_large_photograph_are_spread_over_it() -> None:
    images = torch.arange(4000).float().expand(1, 3, 3000, 4000)
    windows = full_resolution_windows(images)
    assert windows.shape == (1, 9, 3, 128, 128)
    assert windows[0, :3, 0, 0, 0].tolist() == [0, 1936, 3872]


def test_the_overview_keeps_the_shape_and_the_brightness() -> None:
    images = torch.rand(1, 3, 500, 1000, generator=torch.Generator().manual_seed(0)) * 0.5
    overview = reduce_to_overview(images)
    assert overview.shape == (1, 3, 64, 128)
    assert overview.mean().item() == pytest.approx(images.mean().item(), abs=1e-3)
    assert torch.equal(reduce_to_overview(images[..., :100, :128]), images[..., :100, :128])


def test_a_windowed_encoder_sees_what_one_window_has() -> None:
    """Noise in one corner only changes the extremes of the features of the windows."""
    torch.manual_seed(0)
    encoder, photograph = WindowedEncoder(), torch.full((1, 3, 384, 384), 0.5)
    noisy = photograph.clone()
    noisy[..., :100, :100] += 0.4 * (torch.rand(100, 100) - 0.5)
    with torch.inference_mode():
        seen = encoder.image(full_resolution_windows(noisy)[0])
        assert len(torch.unique(seen.round(decimals=4), dim=0)) == 2
        assert (encoder(noisy) - encoder(photograph)).abs().max() > 1e-3


def test_a_windowed_encoder_has_features_and_gradients_of_any_size() -> None:
    for size in ((16, 24), (150, 90)):
        images = torch.rand(2, 3, *size, requires_grad=True)
        features = WindowedEncoder()(images)
        assert features.shape == (2, 256) and features.isfinite().all()
        features.sum().backward()
        assert images.grad is not None and images.grad.isfinite().all() and images.grad.abs().sum() > 0


def test_encoders_are_made_by_the_names_in_cards() -> None:
    assert isinstance(make_encoder("image"), ImageEncoder)
    assert isinstance(make_encoder("windows-1"), WindowedEncoder)
    with pytest.raises(AgentError, match=r"expected an encoder of image, windows-1, found 'windows-2'"):
        make_encoder("windows-2")
    assert Detector(3, make_encoder("windows-1"))(torch.rand(1, 3, 40, 300)).shape == (1, 3)
