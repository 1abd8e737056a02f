"""The metric suite: golden values, shared references, custom metrics, undefined values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from opera_env import weights
from opera_env.errors import MetricError, MissingWeightsError, UnknownPresetError
from opera_env.metrics import METRICS, FunctionMetric, MetricSuite, PyiqaMetric, build_metric, suite
from opera_env.metrics.full_reference import PsnrY
from opera_env.reward import REWARD_PRESETS

needs_lpips = pytest.mark.skipif(
    weights.status("lpips") != "present",
    reason="the LPIPS weights are missing: opera-env weights fetch lpips",
)
LOCAL = [
    "psnr_y",
    "ssim_y",
    pytest.param("lpips", marks=needs_lpips),
    "niqe32",
    "piqe",
    "gmsd",
]

# Values of the noisy photographs of conftest.py, values of the clean ones, tolerance.
GOLDEN = {
    "psnr_y": ((27.1870, 27.0399, 27.3116), (80.0, 80.0, 80.0), 2e-3),
    "ssim_y": ((0.70249, 0.68467, 0.52887), (1.0, 1.0, 1.0), 5e-5),
    "lpips": ((0.16344, 0.24457, 0.31763), (0.0, 0.0, 0.0), 1e-4),
    "niqe32": ((6.4773, 6.0498, 8.8470), (4.2543, 2.8047, 6.4053), 1e-2),
    "piqe": ((40.681, 54.864, 54.289), (29.158, 33.599, 30.211), 0.1),
    "gmsd": ((0.056345, 0.061194, 0.093473), (0.0, 0.0, 0.0), 1e-5),
}


@pytest.mark.parametrize("name", LOCAL)
def test_values_equal_golden_values(name: str, photographs: Tensor, noisy: Tensor) -> None:
    suite = MetricSuite([name])
    references = [suite.features(image[None])[0] for image in photographs]
    for images, expected in zip((noisy, photographs), GOLDEN[name][:2], strict=True):
        actual = [row[name] for row in suite(images, references)]
        assert actual == pytest.approx(expected, abs=GOLDEN[name][2])


@pytest.mark.parametrize("name", LOCAL)
def test_a_batch_may_mix_references(name: str, photographs: Tensor, noisy: Tensor) -> None:
    """A batch with several references equals one image at a time."""
    suite = MetricSuite([name])
    features = [suite.features(image[None])[0] for image in photographs]
    order = [0, 1, 2, 1, 0, 0]
    images = torch.cat([noisy, photographs[1:2] // 2, photographs[:1], noisy[:1]])
    together = suite(images, [features[index] for index in order])
    for image, index, row in zip(images, order, together, strict=True):
        alone = suite(image[None], suite.features(photographs[index][None]))
        assert row[name] == pytest.approx(alone[0][name], abs=2e-4)
    if build_metric(name).needs_reference:
        swapped = suite(images, [features[index] for index in [1, 0, 2, 1, 0, 0]])
        assert swapped[0][name] != pytest.approx(together[0][name], abs=1e-3)
        assert swapped[2][name] == pytest.approx(together[2][name], abs=2e-4)


def test_values_are_in_the_order_of_the_metrics(photographs: Tensor) -> None:
    suite = MetricSuite(["piqe", "psnr_y", "niqe32"])
    (row,) = suite(photographs[:1], suite.features(photographs[:1]))
    assert list(row) == ["piqe", "psnr_y", "niqe32"]
    assert all(type(value) is float for value in row.values())
    assert suite.needs_reference
    assert not MetricSuite(["piqe", "niqe32"]).needs_reference


def test_only_a_black_image_gets_the_worst_piqe(noisy: Tensor) -> None:
    suite = MetricSuite(["piqe"])
    expected = [row["piqe"] for row in suite(noisy, [])]
    black = torch.zeros_like(noisy[:1])
    actual = [row["piqe"] for row in suite(torch.cat([noisy[:1], black, noisy[1:]]), [])]
    assert actual[1] == 100
    assert [actual[0], *actual[2:]] == pytest.approx(expected, abs=1e-3)


def test_the_worst_value_contributes_nothing() -> None:
    """A failure of a metric must not raise a reward."""
    for name in ("psnr_y", "ssim_y", "niqe32", "piqe", "gmsd"):
        metric = build_metric(name)
        for reward in REWARD_PRESETS.values():
            for term in reward.terms:
                if term.name == name and term.clip:
                    assert term.contribution(metric.worst) == 0, (reward.name, name)
                    assert (term.high > term.low) == metric.higher_is_better


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_value_that_is_not_finite_is_replaced_for_that_image_only(noisy: Tensor, bad: float) -> None:
    def function(images: Tensor) -> Tensor:
        values = images.mean((1, 2, 3))
        values[1] = bad
        return values

    suite = MetricSuite([FunctionMetric("mean", function, worst=-7.0), "piqe"])
    rows = suite(noisy, [])
    means = (noisy.float() / 255).mean((1, 2, 3)).tolist()
    assert [row["mean"] for row in rows] == pytest.approx([means[0], -7.0, means[2]])
    assert rows[1]["piqe"] == pytest.approx(GOLDEN["piqe"][0][1], abs=0.1)


def test_an_error_of_a_metric_names_it() -> None:
    def function(images: Tensor) -> Tensor:
        raise KeyError("musiq")

    with pytest.raises(MetricError, match=r"metric 'mine' raised KeyError: 'musiq'"):
        MetricSuite([FunctionMetric("mine", function, worst=0.0)])(torch.zeros(1, 3, 8, 8).byte(), [])


@pytest.mark.parametrize(
    ("returned", "found"),
    [
        (0.5, "float"),
        (None, "NoneType"),
        (np.zeros(2), "ndarray"),
        (torch.tensor(0.5), r"float32 \(\)"),
        (torch.zeros(2, 1), r"float32 \(2, 1\)"),
        (torch.zeros(3), r"float32 \(3,\)"),
        (torch.zeros(2, dtype=torch.complex64), "complex64"),
    ],
    ids=str,
)
def test_a_metric_that_returns_no_number_for_each_image_is_named(returned: Any, found: str) -> None:
    suite = MetricSuite([FunctionMetric("mine", lambda images: returned, worst=0.0)])
    with pytest.raises(
        MetricError, match=rf"'mine': expected a tensor of shape \(2,\), .*, found .*{found}"
    ):
        suite(torch.zeros(2, 3, 8, 8).byte(), [])


@pytest.mark.parametrize("features", [None, torch.zeros(2), (torch.zeros(3, 4),), (torch.tensor(1.0),)])
def test_features_that_do_not_belong_to_the_references_are_named(features: Any) -> None:
    class Mine(PsnrY):
        name = "mine"

        def features(self, reference: Tensor) -> Any:
            return features

    with pytest.raises(MetricError, match=r"'mine': expected features\(reference\) .* length 2, found "):
        MetricSuite([Mine()]).features(torch.zeros(2, 3, 16, 16).byte())


@pytest.mark.parametrize(
    ("metrics", "reason"),
    [
        (["piqe", FunctionMetric("piqe", torch.mean, worst=0.0)], "two metrics are called 'piqe'"),
        (
            [FunctionMetric("mine", torch.mean, worst=float("nan"))],
            "'mine': expected a finite number as worst",
        ),
        ([torch.mean], "expected the name of a metric or an object of opera_env.metrics.Metric, found "),
    ],
)
def test_metrics_that_cannot_be_used_are_refused(metrics: list[Any], reason: str) -> None:
    with pytest.raises(MetricError, match=reason):
        MetricSuite(metrics)


def test_a_function_metric_with_references(photographs: Tensor, noisy: Tensor) -> None:
    seen: list[tuple[int, ...]] = []

    def l1(images: Tensor, references: Tensor) -> Tensor:
        seen.append(tuple(references.shape))
        return (images - references).abs().mean((1, 2, 3))

    metric = FunctionMetric("l1", l1, worst=1.0, higher_is_better=False, needs_reference=True)
    suite = MetricSuite([metric])
    assert suite.needs_reference
    expected = ((noisy.float() - photographs.float()) / 255).abs().mean((1, 2, 3)).tolist()
    rows = suite(noisy, [suite.features(image[None])[0] for image in photographs])
    assert [row["l1"] for row in rows] == pytest.approx(expected, abs=1e-6)
    # One shared reference is expanded to the shape of the images.
    features = suite.features(photographs[:1])[0]
    rows = suite(noisy, [features] * 3)
    expected = ((noisy.float() - photographs[:1].float()) / 255).abs().mean((1, 2, 3)).tolist()
    assert [row["l1"] for row in rows] == pytest.approx(expected, abs=1e-6)
    assert seen == [(3, 3, 128, 128)] * 2


def test_a_function_metric_without_references(noisy: Tensor) -> None:
    suite = MetricSuite([FunctionMetric("light", lambda images: images.mean((1, 2, 3)), worst=0.0)])
    assert not suite.needs_reference
    rows = suite(noisy, [])
    assert [row["light"] for row in rows] == pytest.approx((noisy / 255).mean((1, 2, 3)).tolist())


def test_metrics_get_8_bit_images_without_autocast_or_gradients(noisy: Tensor) -> None:
    def function(images: Tensor) -> Tensor:
        assert images.dtype == torch.float32
        assert torch.equal((images * 255).round() / 255, images)
        assert not torch.is_autocast_enabled("cpu")
        assert not images.requires_grad
        return torch.nn.functional.conv2d(images, torch.ones(1, 3, 3, 3)).mean((1, 2, 3))

    suite = MetricSuite([FunctionMetric("sum", function, worst=0.0), "piqe"])
    plain = suite(noisy, [])
    with torch.autocast("cpu", torch.bfloat16):
        assert suite(noisy, []) == plain


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("ssim_y", 10),
        ("niqe32", 63),
        ("piqe", 31),
        ("gmsd", 31),
        pytest.param("lpips", 31, marks=needs_lpips),
    ],
)
def test_an_image_that_is_too_small_is_refused(name: str, size: int) -> None:
    metric = build_metric(name)
    assert metric.min_side == size + 1
    suite = MetricSuite([name])
    generator = torch.Generator().manual_seed(0)
    for height, width in ((size, 128), (128, size)):
        image = torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)
        with pytest.raises(MetricError, match=rf"{name}.*{size + 1}.*{height} x {width}.*canvas"):
            suite(image[None], [()])
        with pytest.raises(MetricError, match=name):
            suite.features(image[None])


@pytest.mark.parametrize(
    "name", ["psnr_y", "ssim_y", "niqe32", "piqe", "gmsd", pytest.param("lpips", marks=needs_lpips)]
)
def test_an_image_of_the_smallest_size_has_finite_values(name: str) -> None:
    """A metric accepts images of side min_side, without errors and undefined values."""
    metric = build_metric(name)
    side = metric.min_side
    generator = torch.Generator().manual_seed(0)
    clean = torch.randint(0, 256, (2, 3, side, side + 1), generator=generator).float() / 255
    degraded = ((clean * 200).round() / 255).float()
    values = metric.values(degraded, metric.features(clean))
    assert values.shape == (2,)
    assert bool(values.isfinite().all())


def test_unknown_metrics_are_refused() -> None:
    with pytest.raises(UnknownPresetError, match=r"metric 'psnr'.*psnr_y"):
        build_metric("psnr")
    with pytest.raises(MetricError, match="no metric 'psnrr'"):
        PyiqaMetric("psnrr", worst=0, higher_is_better=True)


@pytest.mark.parametrize("name", ["clipiqa", "musiq", "lpips"])
def test_missing_weights_name_the_file_and_the_command(
    name: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPERA_ENV_CACHE", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    with pytest.raises(MissingWeightsError, match=f"opera-env weights fetch {name}") as caught:
        build_metric(name)
    assert caught.value.path.is_relative_to(tmp_path)


def test_all_metrics_of_reward_presets_exist() -> None:
    for reward in REWARD_PRESETS.values():
        for term in reward.terms:
            assert term.metric in METRICS


def test_other_metrics_of_pyiqa_can_be_used(photographs: Tensor, noisy: Tensor) -> None:
    suite = MetricSuite(
        [
            PyiqaMetric("entropy", worst=0.0, higher_is_better=True),
            PyiqaMetric("fsim", 0.0, True, needs_reference=True),
        ]
    )
    rows = suite(noisy, [suite.features(image[None])[0] for image in photographs])
    assert all(3 < row["entropy"] < 9 for row in rows)
    assert all(0.5 < row["fsim"] < 1 for row in rows)
    (same,) = suite(photographs[:1], suite.features(photographs[:1]))
    assert same["fsim"] == pytest.approx(1, abs=1e-4)


def test_metrics_run_in_float32_and_leave_the_precision_of_others() -> None:
    """The switches of a GPU exist without one."""
    switches = torch.backends.cuda.matmul, torch.backends.cudnn.conv
    before = [switch.fp32_precision for switch in switches]
    try:
        for switch in switches:
            switch.fp32_precision = "tf32"
        with pytest.raises(ZeroDivisionError), suite._full_precision(torch.device("cuda")):
            assert [switch.fp32_precision for switch in switches] == ["ieee", "ieee"]
            raise ZeroDivisionError
        assert [switch.fp32_precision for switch in switches] == ["tf32", "tf32"]
    finally:
        for switch, precision in zip(switches, before, strict=True):
            switch.fp32_precision = precision
