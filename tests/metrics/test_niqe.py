"""NIQE with blocks of 32 equals that of pyiqa; its values for constant images and blocks."""

from __future__ import annotations

import pytest
import torch
from pyiqa.archs.niqe_arch import niqe
from safetensors.torch import load_file
from torch import Tensor

from opera_env.metrics import MetricSuite
from opera_env.metrics.full_reference import luma
from opera_env.metrics.niqe import PRISTINE_STATISTICS, Niqe32, niqe_features


def _pyiqa_values(metric: Niqe32, images: Tensor) -> list[float]:
    y = luma(images.float() / 255).round().double()
    return [
        niqe(value[None], metric.mean.double(), metric.covariance.double(), 32, 32).item()  # type: ignore[no-untyped-call]
        for value in y
    ]


@pytest.mark.parametrize("kind", ["clean", "noisy", "blurred", "dark", "wide", "odd"])
def test_equals_pyiqa(photographs: Tensor, noisy: Tensor, kind: str) -> None:
    blurred = torch.nn.functional.avg_pool2d(photographs.float(), 3, 1, 1).round().to(torch.uint8)
    images = {
        "clean": photographs,
        "noisy": noisy,
        "blurred": blurred,
        "dark": noisy // 2,
        "wide": torch.cat([photographs, noisy], dim=-1),
        "odd": noisy[..., :101, :119],  # not a whole number of blocks
    }[kind]
    metric = Niqe32()
    actual = metric.values(images.float() / 255, ()).tolist()
    # Blurred images have hardly any texture, so that float32 rounding has a larger effect.
    assert actual == pytest.approx(_pyiqa_values(metric, images), rel=0.05 if kind == "blurred" else 0.01)


def test_values_do_not_depend_on_the_batch(photographs: Tensor, noisy: Tensor) -> None:
    metric = Niqe32()
    images = torch.cat([photographs, noisy]).float() / 255
    together = metric.values(images, ())
    alone = torch.cat([metric.values(image[None], ()) for image in images])
    torch.testing.assert_close(together, alone, atol=1e-3, rtol=0)


@pytest.mark.parametrize("kind", ["black", "one", "grey", "white", "one block", "two blocks"])
def test_only_a_constant_image_gets_the_worst_value(photographs: Tensor, noisy: Tensor, kind: str) -> None:
    """pyiqa raises an error for the whole batch. One textured block is too few for a covariance, too."""
    flat = torch.full_like(photographs[:1], {"black": 0, "one": 1, "white": 255}.get(kind, 100))
    for block in range({"one block": 1, "two blocks": 2}.get(kind, 0)):
        columns = slice(32 * block + 10, 32 * block + 22)
        flat[..., 10:22, columns] = noisy[:1, :, 10:22, columns]
    suite = MetricSuite(["niqe32"])
    expected = [row["niqe32"] for row in suite(torch.cat([photographs, noisy]), [])]
    batch = torch.cat([photographs[:1], flat, photographs[1:], flat, noisy])
    actual = [row["niqe32"] for row in suite(batch, [])]
    if kind == "two blocks":  # enough for a covariance
        assert actual[1] == pytest.approx(actual[4])
        assert max(expected) < actual[1]
    else:
        assert actual[1] == actual[4] == Niqe32.worst > max(expected)
    assert [*actual[:1], *actual[2:4], *actual[5:]] == pytest.approx(expected, abs=1e-3)


def test_constant_blocks_are_ignored(photographs: Tensor) -> None:
    """The image has a black bar, as videos have; three of four rows of blocks remain."""
    barred = photographs.clone()
    barred[..., :32, :] = 0
    values = Niqe32().values(barred.float() / 255, ())
    assert bool(values.isfinite().all())
    assert values.max() < 30


def test_noise_raises_niqe(photographs: Tensor, noisy: Tensor) -> None:
    metric = Niqe32()
    clean, noisy_values = (metric.values(images.float() / 255, ()) for images in (photographs, noisy))
    assert bool((clean < noisy_values).all())
    assert not metric.higher_is_better


def test_features_have_the_stated_shapes(noisy: Tensor) -> None:
    features, sharpness = niqe_features(noisy[..., :100, :].float() / 255)
    assert features.shape == (3, 3 * 4, 36)
    assert sharpness.shape == (3, 3 * 4)
    assert bool(features.isfinite().all())


def test_the_shipped_covariance_is_positive_definite() -> None:
    statistics = load_file(PRISTINE_STATISTICS)
    assert statistics["mean"].shape == (36,)
    covariance = statistics["covariance"]
    assert covariance.shape == (36, 36)
    torch.testing.assert_close(covariance, covariance.T)
    assert bool((torch.linalg.eigvalsh(covariance.double()) > 0).all())
