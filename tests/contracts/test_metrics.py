"""The contract of metrics, for every metric whose weights are present."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage import data
from torch import Tensor

from opera_env import weights
from opera_env.data.images import quantise, to_tensor
from opera_env.errors import MetricError, MissingWeightsError, UnknownPresetError
from opera_env.metrics import METRICS, FunctionMetric, Metric, MetricSuite, build_metric
from opera_env.reward import REWARD_PRESETS

WEIGHTS = {name: name for name in ("lpips", "musiq", "clipiqa", "maniqa")}
"""Metrics that need a file, and its name in ``opera-env weights list``."""

BATCHING = {"piqe": 0.5}
"""Largest difference between the values of an image alone and in a batch; 1e-3 for other metrics."""

FULL_REFERENCE = ("psnr_y", "ssim_y", "psnr_rgb", "ssim_yiq", "lpips", "gmsd")
"""Metrics that prefer every clean image; metrics without reference may fail on single images."""


def param(name: str) -> object:
    marks = [pytest.mark.needs_weights(WEIGHTS[name])] if name in WEIGHTS else []
    return pytest.param(name, marks=marks)


every_metric = pytest.mark.parametrize("name", [param(name) for name in METRICS])
custom_metric = FunctionMetric("custom", lambda image, reference: (image - reference).abs().mean((1, 2, 3)),
                            worst=1.0, higher_is_better=False, needs_reference=True)  # fmt: skip


@cache
def metric_of(name: str) -> Metric:
    return build_metric(name)


@cache
def photographs() -> Tensor:
    """Three crops of photographs, uint8 (3, 3, 96, 128)."""
    cuts = (
        data.astronaut()[60:156, 170:298],
        data.coffee()[100:196, 200:328],
        data.chelsea()[60:156, 120:248],
    )
    return quantise(torch.stack([to_tensor(np.ascontiguousarray(cut)) for cut in cuts]))


@cache
def degraded() -> Tensor:
    """The same photographs, dark and with strong noise."""
    noise = torch.randn(photographs().shape, generator=torch.Generator().manual_seed(0))
    return quantise(photographs() / 255 * 0.4 + 0.2 * noise)


def compute(name: str, images: Tensor, references: Tensor) -> list[float]:
    suite = MetricSuite([metric_of(name)])
    features = (
        [suite.features(reference[None])[0] for reference in references] if suite.needs_reference else []
    )
    return [row[name] for row in suite(images, features)]


def as_float(images: Tensor) -> Tensor:
    return images.to(torch.float32) / 255


@every_metric
def test_a_metric_has_a_name_a_direction_and_a_worst_value(name: str) -> None:
    metric = metric_of(name)
    assert metric.name == name
    assert isinstance(metric.higher_is_better, bool) and isinstance(metric.needs_reference, bool)
    assert np.isfinite(metric.worst)
    assert 1 <= metric.min_side <= 64  # crops of 64 pixels are large enough for every metric


@every_metric
def test_every_image_gets_a_finite_float(name: str) -> None:
    for images in (photographs(), degraded()):
        values = compute(name, images, photographs())
        assert len(values) == 3
        assert all(type(value) is float and np.isfinite(value) for value in values)


@pytest.mark.parametrize("name", [param(name) for name in FULL_REFERENCE])
def test_clean_images_are_better_than_degraded_ones(name: str) -> None:
    sign = 1 if metric_of(name).higher_is_better else -1
    clean, worse = (compute(name, images, photographs()) for images in (photographs(), degraded()))
    assert all(sign * value > sign * other for value, other in zip(clean, worse, strict=True))


@pytest.mark.parametrize("name", [param(name) for name in FULL_REFERENCE])
def test_values_get_worse_with_the_noise_level(name: str) -> None:
    noise = torch.randn(photographs().shape, generator=torch.Generator().manual_seed(1))
    levels = [quantise(as_float(photographs()) + level * noise) for level in (0, 0.03, 0.1, 0.3)]
    values = np.array([compute(name, images, photographs()) for images in levels])
    steps = np.diff(values, axis=0)
    assert (steps < 0).all() if metric_of(name).higher_is_better else (steps > 0).all()


@every_metric
def test_needs_reference_is_correct(name: str) -> None:
    assert metric_of(name).needs_reference == (name in FULL_REFERENCE)


@every_metric
def test_the_worst_value_is_worse_than_that_of_degraded_images(name: str) -> None:
    """Otherwise an image without a value would be preferred to a degraded image."""
    metric = metric_of(name)
    values = compute(name, degraded(), photographs())
    assert max(values) < metric.worst if not metric.higher_is_better else min(values) > metric.worst


@every_metric
def test_values_do_not_depend_on_the_batch(name: str) -> None:
    images, references = torch.cat([photographs(), degraded()]), torch.cat([photographs(), photographs()])
    together = compute(name, images, references)
    alone = [
        compute(name, image[None], reference[None])[0]
        for image, reference in zip(images, references, strict=True)
    ]
    assert together == pytest.approx(alone, rel=1e-3, abs=BATCHING.get(name, 1e-3))


@every_metric
def test_equal_images_get_equal_values(name: str) -> None:
    values = compute(name, degraded()[[0, 0, 0]], photographs()[[0, 0, 0]])
    assert values == compute(name, degraded()[[0, 0, 0]], photographs()[[0, 0, 0]])
    assert values == pytest.approx([values[0]] * 3, rel=1e-3, abs=BATCHING.get(name, 1e-3))


@every_metric
@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_constant_image_does_not_affect_its_batch(name: str, level: int) -> None:
    """It gets a finite value, and the values of the other images stay the same."""
    images = degraded().clone()
    images[1] = level
    values = compute(name, images, photographs())
    assert all(np.isfinite(values))
    expected = compute(name, degraded()[[0, 2]], photographs()[[0, 2]])
    assert [values[0], values[2]] == pytest.approx(expected, rel=1e-3, abs=BATCHING.get(name, 1e-3))


@every_metric
@pytest.mark.parametrize("level", [0, 128])
def test_a_constant_reference_is_accepted(name: str, level: int) -> None:
    references = torch.full_like(photographs(), level)
    for images in (degraded(), references):
        assert all(np.isfinite(compute(name, images, references)))


def test_an_undefined_value_is_the_worst_value() -> None:
    flat = torch.full((1, 3, 96, 96), 128, dtype=torch.uint8)
    assert compute("niqe32", flat, flat) == [metric_of("niqe32").worst]
    assert compute("piqe", flat * 0, flat) == [metric_of("piqe").worst]


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), float("-inf")])
def test_a_value_that_is_not_finite_is_replaced_by_the_worst(broken: float) -> None:
    def half_broken(images: Tensor) -> Tensor:
        return torch.tensor([0.5, broken, 0.25])

    suite = MetricSuite([FunctionMetric("half", half_broken, worst=-7.0)])
    assert [row["half"] for row in suite(photographs(), [])] == [0.5, -7.0, 0.25]


@pytest.mark.parametrize("name", [param(name) for name in FULL_REFERENCE])
@torch.inference_mode()
def test_one_reference_can_be_shared_by_a_batch(name: str) -> None:
    metric = metric_of(name)
    features = metric.features(as_float(photographs()[:1]))
    three = metric.features(as_float(photographs()[[0, 0, 0]]))
    images = as_float(torch.cat([photographs()[:1], degraded()[:2]]))
    assert metric.values(images, features).tolist() == pytest.approx(
        metric.values(images, three).tolist(), rel=1e-4, abs=1e-4
    )
    assert all(len(feature) == 1 for feature in features)


@pytest.mark.parametrize("name", [param(name) for name in METRICS if name not in FULL_REFERENCE])
@torch.inference_mode()
def test_a_metric_without_reference_has_no_features(name: str) -> None:
    metric = metric_of(name)
    assert metric.features(as_float(photographs())) == ()
    assert metric.values(as_float(photographs()), ()).shape == (3,)
    assert MetricSuite([metric])(photographs(), [])[0].keys() == {name}


@every_metric
def test_images_and_references_are_not_modified(name: str) -> None:
    images, references = degraded().clone(), photographs().clone()
    compute(name, images, references)
    assert torch.equal(images, degraded()) and torch.equal(references, photographs())


@every_metric
def test_min_side_is_the_smallest_accepted_size(name: str) -> None:
    side = metric_of(name).min_side
    smallest = photographs()[..., :side, :side]
    assert all(np.isfinite(compute(name, smallest, smallest)))
    for small in (photographs()[..., : side - 1, :], photographs()[..., : side - 1]):
        if small.numel():
            with pytest.raises(MetricError, match=f"{name}.* {side} x {side}"):
                compute(name, small, small)


@every_metric
@pytest.mark.parametrize("size", [(67, 101), (65, 64)], ids=str)
def test_images_of_any_larger_size_are_accepted(name: str, size: tuple[int, int]) -> None:
    cut = photographs()[..., : size[0], : size[1]]
    assert all(np.isfinite(compute(name, cut, cut)))


@pytest.mark.parametrize(
    "names",
    [
        ("psnr_y", "gmsd", "piqe"),
        pytest.param(("lpips", "niqe32"), marks=pytest.mark.needs_weights("lpips")),
    ],
)
def test_a_suite_computes_the_values_of_its_metrics(names: tuple[str, ...]) -> None:
    suite = MetricSuite([metric_of(name) for name in names])
    features = [suite.features(reference[None])[0] for reference in photographs()]
    rows = suite(degraded(), features)
    assert [list(row) for row in rows] == [list(names)] * 3
    for name in names:
        assert [row[name] for row in rows] == compute(name, degraded(), photographs())


@pytest.mark.parametrize("preset", REWARD_PRESETS)
def test_all_metrics_of_a_reward_preset_exist(preset: str) -> None:
    assert all(term.name in METRICS for term in REWARD_PRESETS[preset].terms)


def test_a_function_can_be_a_metric() -> None:
    suite = MetricSuite([custom_metric])
    features = suite.features(photographs()[:1]) * 3
    values = [row["custom"] for row in suite(photographs(), features)]
    assert values[0] == 0 and values[1] > 0 and values[2] > 0


def test_an_unknown_metric_is_refused() -> None:
    with pytest.raises(UnknownPresetError, match=r"'psnr'.*psnr_y"):
        build_metric("psnr")


@pytest.mark.parametrize("name", WEIGHTS)
def test_the_error_for_missing_weights_names_file_and_command(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names the file, its path and the command that fetches it; nothing is downloaded."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("OPERA_ENV_CACHE", str(tmp_path / "opera"))
    with pytest.raises(MissingWeightsError) as raised:
        build_metric(name)
    path = weights.get_weight_file(WEIGHTS[name]).path
    assert raised.value.path == path and path.is_relative_to(tmp_path)
    assert str(path) in str(raised.value)
    assert f"opera-env weights fetch {WEIGHTS[name]}" in str(raised.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [name for name in METRICS if name not in WEIGHTS])
def test_other_metrics_need_no_weight_file(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("OPERA_ENV_CACHE", str(tmp_path / "opera"))
    build_metric(name)
    assert not list(tmp_path.iterdir())


def test_the_suite_computes_in_full_precision() -> None:
    """With autocast, PIQE would be five times too large."""
    plain = compute("piqe", degraded(), photographs())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert compute("piqe", degraded(), photographs()) == plain


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_the_suite_computes_in_full_precision_on_a_gpu() -> None:
    seen: list[bool] = []

    def function(images: Tensor) -> Tensor:
        seen.append(torch.backends.cudnn.allow_tf32 or not torch.backends.cudnn.enabled)
        return images.mean((1, 2, 3))

    before = torch.backends.cudnn.allow_tf32
    MetricSuite([FunctionMetric("mean", function, worst=0.0)], "cuda")(degraded(), [])
    assert seen == [False]
    assert torch.backends.cudnn.allow_tf32 == before


@every_metric
def test_the_networks_of_metrics_are_in_evaluation_mode(name: str) -> None:
    networks = [value for value in vars(metric_of(name)).values() if isinstance(value, torch.nn.Module)]
    assert not any(module.training for network in networks for module in network.modules())
