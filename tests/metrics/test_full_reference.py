"""PSNR and SSIM, on luma and on RGB, equal those of pyiqa."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from opera_env.metrics import build_metric
from opera_env.metrics.full_reference import Gmsd, luma

Distort = Callable[[Tensor, Tensor], Tensor]


def _jitter(reference: Tensor, levels: int) -> Tensor:
    generator = torch.Generator().manual_seed(levels)
    offsets = torch.randint(-levels, levels + 1, reference.shape, generator=generator)
    return (reference.int() + offsets).clamp(0, 255).to(torch.uint8)


DISTORTIONS: dict[str, Distort] = {
    "identical": lambda reference, noisy: reference,
    "noise": lambda reference, noisy: noisy,
    "one grey level": lambda reference, noisy: _jitter(reference, 1),
    "three grey levels": lambda reference, noisy: _jitter(reference, 3),
    "one pixel": lambda reference, noisy: torch.cat(
        [torch.cat([255 - reference[..., :1, :1], reference[..., :1, 1:]], -1), reference[..., 1:, :]], -2
    ),
    "dark": lambda reference, noisy: reference // 2,
    "mirrored": lambda reference, noisy: reference.flip(-1),
    "inverted": lambda reference, noisy: 255 - reference,
    "black": lambda reference, noisy: torch.zeros_like(reference),
    "white": lambda reference, noisy: torch.full_like(reference, 255),
}


TOLERANCES = {"psnr_y": 1e-3, "ssim_y": 5e-5, "psnr_rgb": 1e-3, "ssim_yiq": 5e-5}


@pytest.fixture(scope="module")
def pyiqa_metrics() -> dict[str, Any]:
    import pyiqa

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        luma = {"test_y_channel": True, "color_space": "ycbcr"}
        return {
            "psnr_y": pyiqa.create_metric("psnr", device="cpu", **luma),
            "ssim_y": pyiqa.create_metric("ssim", device="cpu", **luma),
            "psnr_rgb": pyiqa.create_metric("psnr", device="cpu"),
            "ssim_yiq": pyiqa.create_metric("ssim", device="cpu"),
        }


def _values(name: str, images: Tensor, references: Tensor) -> Tensor:
    metric = build_metric(name)
    return metric.values(images.float() / 255, metric.features(references.float() / 255))


@pytest.mark.parametrize("distortion", DISTORTIONS)
@pytest.mark.parametrize("metric", TOLERANCES)
def test_equals_pyiqa(
    pyiqa_metrics: dict[str, Any],
    photographs: Tensor,
    noisy: Tensor,
    distortion: str,
    metric: str,
) -> None:
    images = DISTORTIONS[distortion](photographs, noisy)
    expected = pyiqa_metrics[metric](images.float() / 255, photographs.float() / 255).flatten()
    actual = _values(metric, images, photographs)
    torch.testing.assert_close(actual, expected.float(), atol=TOLERANCES[metric], rtol=0)


@pytest.mark.parametrize("size", [(11, 11), (11, 64), (37, 53)])
def test_equals_pyiqa_at_other_sizes(
    pyiqa_metrics: dict[str, Any], photographs: Tensor, noisy: Tensor, size: tuple[int, int]
) -> None:
    images, references = (batch[..., : size[0], : size[1]] for batch in (noisy, photographs))
    for metric, tolerance in TOLERANCES.items():
        expected = pyiqa_metrics[metric](images / 255, references / 255).flatten()
        torch.testing.assert_close(
            _values(metric, images, references), expected.float(), atol=tolerance, rtol=0
        )


def test_values_of_identical_images(photographs: Tensor) -> None:
    assert _values("psnr_y", photographs, photographs).tolist() == pytest.approx([80] * 3, abs=1e-3)
    ones = _values("ssim_y", photographs, photographs)
    assert ones.tolist() == pytest.approx([1] * 3, abs=1e-5)


def test_luma_equals_values_computed_by_hand() -> None:
    colours = torch.tensor(
        [[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255], [10, 20, 30]]
    )
    # 16 + (65.481 R + 128.553 G + 24.966 B) / 255
    expected = [16, 235, 81.481, 144.553, 40.966, 16 + (654.81 + 2571.06 + 748.98) / 255]
    actual = luma(colours.float().view(6, 3, 1, 1) / 255).flatten().tolist()
    assert actual == pytest.approx(expected, abs=0.5)


def test_psnr_equals_a_value_computed_by_hand() -> None:
    """An error of 10 levels in green is an error of 10 * 128.553 / 255 in luma."""
    reference = torch.full((1, 3, 16, 16), 100, dtype=torch.uint8)
    image = reference.clone()
    image[:, 1] += 10
    expected = 20 * math.log10(255 / (10 * 128.553 / 255))
    assert _values("psnr_y", image, reference).item() == pytest.approx(expected, abs=1e-3)


def test_values_fall_with_the_distortion(photographs: Tensor) -> None:
    for name in ("psnr_y", "ssim_y"):
        values = [_values(name, _jitter(photographs, levels), photographs) for levels in (0, 1, 4, 16, 64)]
        for less_distorted, more_distorted in zip(values, values[1:], strict=False):
            assert bool((less_distorted > more_distorted).all()), name
        assert build_metric(name).higher_is_better


def test_features_of_one_reference_are_broadcast(photographs: Tensor, noisy: Tensor) -> None:
    for name in ("psnr_y", "ssim_y"):
        metric = build_metric(name)
        features = metric.features(photographs[:1].float() / 255)
        batch = torch.cat([noisy[:1], photographs[:1], photographs[:1] // 2]).float() / 255
        together = metric.values(batch, features)
        alone = torch.cat([metric.values(image[None], features) for image in batch])
        torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(64, 80), (127, 95), (33, 32)])
def test_gmsd_equals_pyiqa(size: tuple[int, int]) -> None:
    """Up to a grey level of single pixels that are rounded: half a level is computed differently."""
    pyiqa = pytest.importorskip("pyiqa", reason="pip install 'opera-env[iqa]'")
    generator = torch.Generator().manual_seed(0)
    reference = torch.randint(0, 256, (2, 3, *size), generator=generator) / 255
    noise = torch.randint(-30, 31, reference.shape, generator=generator) / 255
    images, metric = (reference + noise).clamp(0, 1), Gmsd()
    values = metric.values(images, metric.features(reference))
    torch.testing.assert_close(values, pyiqa.create_metric("gmsd")(images, reference), rtol=0, atol=2e-5)
    assert torch.equal(metric.values(reference, metric.features(reference)), torch.zeros(2))
