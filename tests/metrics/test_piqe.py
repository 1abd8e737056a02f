"""PIQE equals that of pyiqa."""

from __future__ import annotations

import pytest
import torch
from pyiqa.archs.piqe_arch import piqe
from torch import Tensor
from torch.nn import functional as F

from opera_env.metrics.piqe import Piqe

KINDS = ["clean", "noisy", "blurred", "dark", "blocks", "flat part", "wide", "odd", "nearly whole"]


def _images(kind: str, photographs: Tensor, noisy: Tensor) -> Tensor:
    clean = photographs.float()
    barred = noisy.clone()
    barred[..., 40:80] = 90
    return (
        {
            "clean": clean,
            "noisy": noisy,
            "blurred": F.avg_pool2d(clean, 5, 1, 2),
            "dark": noisy // 3,
            "blocks": F.interpolate(F.avg_pool2d(clean, 8), scale_factor=8),  # strong block artefacts
            "flat part": barred,
            "wide": torch.cat([photographs, noisy], dim=-1),
            "odd": noisy[..., :101, :119],
            "nearly whole": noisy[..., :127, :111],  # mirroring completes a block
        }[kind]
        .float()
        .round()
        / 255
    )


@pytest.mark.parametrize("kind", KINDS)
def test_equals_pyiqa(photographs: Tensor, noisy: Tensor, kind: str) -> None:
    """pyiqa runs in float64: in float32, its rounding errors move single blocks across a threshold."""
    images = _images(kind, photographs, noisy)
    expected = piqe(images.double())[0].float()
    torch.testing.assert_close(Piqe().values(images, ()), expected, atol=0.01, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_values_do_not_depend_on_the_batch(photographs: Tensor, noisy: Tensor, kind: str) -> None:
    images = _images(kind, photographs, noisy)
    alone = torch.cat([Piqe().values(image[None], ()) for image in images])
    torch.testing.assert_close(Piqe().values(images, ()), alone, atol=0.01, rtol=0)


@pytest.mark.parametrize("level", [0.0, 1 / 255, 100 / 255, 1.0])
def test_constant_images_equal_pyiqa(level: float) -> None:
    """PIQE is undefined for a black image, and perfect for any other constant image."""
    image = torch.full((1, 3, 48, 64), level)
    torch.testing.assert_close(Piqe().values(image, ()), piqe(image.double())[0].float(), equal_nan=True)
