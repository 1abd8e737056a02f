"""LPIPS: calibration values, equality with the lpips package, features that are computed once."""

from __future__ import annotations

import warnings
from importlib.metadata import distribution
from pathlib import Path

import lpips
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from opera_env import weights
from opera_env.errors import MetricError, MissingWeightsError
from opera_env.metrics.lpips_alex import MIN_SIDE, LpipsAlex

needs_weights = pytest.mark.skipif(
    weights.status("lpips") != "present",
    reason="the LPIPS weights are missing: opera-env weights fetch lpips",
)

CALIBRATION = {"I03": 0.7237, "I04": 0.2572, "I06": 0.05079, "I08": 0.05205, "I19": 0.4253}
"""Values of the authors' code, from ResultsCalibra/results_official.csv of pyiqa."""


@pytest.fixture(scope="module")
def metric() -> LpipsAlex:
    return LpipsAlex()


@pytest.fixture(scope="module")
def official(metric: LpipsAlex) -> lpips.LPIPS:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        network = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    network.net.load_state_dict(metric.backbone.state_dict())
    return network


def _pair(batch: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    reference = torch.rand(batch, 3, height, width, generator=generator)
    noise = torch.randn(batch, 3, height, width, generator=generator)
    return (reference + 0.1 * noise).clamp(0, 1), reference


def _read(path: Path) -> Tensor:
    pixels = np.asarray(Image.open(path).convert("RGB"), dtype=np.float32) / 255
    return torch.from_numpy(pixels).permute(2, 0, 1)[None]


@needs_weights
@pytest.mark.parametrize("name", CALIBRATION)
def test_equals_the_official_calibration_values(metric: LpipsAlex, name: str) -> None:
    folder = Path(str(distribution("pyiqa").locate_file("ResultsCalibra")))
    if not folder.is_dir():
        pytest.skip("this release of pyiqa does not contain its calibration images")
    image, reference = (_read(folder / kind / f"{name}.bmp") for kind in ("dist_dir", "ref_dir"))
    with torch.inference_mode():
        value = metric(image, reference)
    digits = 4 if CALIBRATION[name] > 0.1 else 5
    assert round(value.item(), digits) == CALIBRATION[name]


@needs_weights
@pytest.mark.parametrize(
    "shape", [(1, 128, 128), (3, 96, 131), (2, MIN_SIDE, MIN_SIDE), (1, MIN_SIDE, 200)]
)
def test_equals_the_official_code(
    metric: LpipsAlex, official: lpips.LPIPS, shape: tuple[int, int, int]
) -> None:
    image, reference = _pair(*shape)
    with torch.inference_mode():
        expected = official(image * 2 - 1, reference * 2 - 1).flatten()
        torch.testing.assert_close(metric(image, reference), expected, atol=1e-6, rtol=0)


@needs_weights
def test_features_of_a_reference_can_be_shared(metric: LpipsAlex) -> None:
    image, reference = _pair(4, 64, 80)
    with torch.inference_mode():
        each = torch.cat([metric(image[i : i + 1], reference[i : i + 1]) for i in range(4)])
        torch.testing.assert_close(
            metric.distance(image, metric.features(reference)), each, atol=1e-6, rtol=0
        )
        features = metric.features(reference[:1])
        shared = metric(image, reference[:1].expand(4, -1, -1, -1))
        torch.testing.assert_close(metric.distance(image, features), shared, atol=1e-6, rtol=0)
        torch.testing.assert_close(metric(reference, reference), torch.zeros(4), atol=1e-7, rtol=0)


@needs_weights
def test_gradients_with_respect_to_the_image_are_finite(metric: LpipsAlex) -> None:
    image, reference = _pair(2, 64, 64)
    image[1] = 0  # in a black image, many features are zero in all channels
    image.requires_grad_()
    metric(image, reference).sum().backward()
    assert image.grad is not None
    assert bool(image.grad.isfinite().all())
    assert image.grad[0].abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in metric.parameters())


@needs_weights
def test_training_mode_and_random_state_have_no_effect(metric: LpipsAlex) -> None:
    image, reference = _pair(1, 64, 64)
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fresh = LpipsAlex().train()
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(fresh(image, reference), metric(image, reference))


@needs_weights
@pytest.mark.parametrize(
    "shape", [(1, 3, MIN_SIDE - 1, 64), (1, 3, 64, MIN_SIDE - 1), (3, 64, 64), (1, 1, 64, 64)]
)
def test_images_of_a_wrong_shape_are_refused(metric: LpipsAlex, shape: tuple[int, ...]) -> None:
    with pytest.raises(MetricError, match="31 pixels"):
        metric(torch.zeros(shape), torch.zeros(shape))


@needs_weights
def test_references_of_another_size_or_number_are_refused(metric: LpipsAlex) -> None:
    image, reference = _pair(2, 64, 64)
    with pytest.raises(MetricError, match="one size"):
        metric(image, reference[..., :48])
    with pytest.raises(MetricError, match="number"):
        metric(image, torch.cat([reference, reference[:1]]))


def test_the_error_names_the_command_that_fetches_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPERA_ENV_CACHE", str(tmp_path))
    with pytest.raises(MissingWeightsError, match="opera-env weights fetch lpips"):
        LpipsAlex()
