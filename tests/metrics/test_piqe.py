"""PIQE: pyiqa's numbers, by a shorter way."""

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
            "blocks": F.interpolate(
                F.avg_pool2d(clean, 8), scale_factor=8
            ),  # what coding leaves at its worst
            "flat part": barred,
            "wide": torch.cat([photographs, noisy], dim=-1),
            "odd": noisy[..., :101, :119],
            "nearly whole": noisy[..., :127, :111],  # the mirrored part fills a block
        }[kind]
        .float()
        .round()
        / 255
    )


@pytest.mark.parametrize("kind", KINDS)
def test_equals_pyiqa(photographs: Tensor, noisy: Tensor, kind: str) -> None:
    """In float64: in float32 pyiqa's own rounding tips a block over a threshold now and then."""
    images = _images(kind, photographs, noisy)
    expected = piqe(images.double())[0].float()
    torch.testing.assert_close(Piqe().values(images, ()), expected, atol=0.01, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_together_and_alone_are_the_same(photographs: Tensor, noisy: Tensor, kind: str) -> None:
    images = _images(kind, photographs, noisy)
    alone = torch.cat([Piqe().values(image[None], ()) for image in images])
    torch.testing.assert_close(Piqe().values(images, ()), alone, atol=0.01, rtol=0)


@pytest.mark.parametrize("level", [0.0, 1 / 255, 100 / 255, 1.0])
def test_flat_images_are_as_in_pyiqa(level: float) -> None:
    """A black one has no value; any other is flawless by its measure."""
    image = torch.full((1, 3, 48, 64), level)
    torch.testing.assert_close(Piqe().values(image, ()), piqe(image.double())[0].float(), equal_nan=True)
