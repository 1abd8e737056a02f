"""Bootstrap confidence intervals over source images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import trim_mean

from opera_env.evaluation.stats import (
    ClusterBootstrap,
    ConfidenceInterval,
    bootstrap_interval,
    format_interval,
    interquartile_mean,
    mean_over,
)


def test_the_interval_resamples_images_not_samples() -> None:
    """Ten equal samples of each of four images count as four, not forty."""
    rng = np.random.default_rng(0)
    per_image = rng.normal(size=4)
    values = np.repeat(per_image, 10)
    images = [("s", index) for index in range(4) for _ in range(10)]
    clustered = bootstrap_interval(list(values), images)
    naive = bootstrap_interval(list(values), [("s", index) for index in range(40)])
    assert clustered.mean == naive.mean == pytest.approx(per_image.mean())
    assert clustered.high - clustered.low > 2 * (naive.high - naive.low)


def test_the_interval_covers_the_mean() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for seed in range(60):
        actual = bootstrap_interval(list(rng.normal(size=40)), [("s", index) for index in range(40)], seed)
        hits += actual.low <= 0 <= actual.high
    assert hits >= 50


def test_one_source_image_has_no_interval() -> None:
    actual = bootstrap_interval([1.0, 2.0], [("s", 0), ("s", 0)])
    assert actual.mean == 1.5
    assert np.isnan(actual.low)


@pytest.mark.parametrize(
    ("interval", "options", "text"),
    [
        (ConfidenceInterval(0.34, -0.26, 0.934), {"signed": True}, "+0.34 [-0.26, 0.93]"),
        (ConfidenceInterval(-0.5, -1.0, 0.0), {"signed": True}, "-0.50 [-1.00, 0.00]"),
        (ConfidenceInterval(-0.001, -0.0, 0.001), {"signed": True}, "+0.00 [0.00, 0.00]"),
        (ConfidenceInterval(6.05, 5.354, 6.8), {}, "6.05 [5.35, 6.80]"),
        (ConfidenceInterval(0.5, 0.25, 0.75), {"digits": 3}, "0.500 [0.250, 0.750]"),
    ],
)
def test_an_interval_is_written_after_its_mean(
    interval: ConfidenceInterval, options: dict[str, Any], text: str
) -> None:
    assert format_interval(interval, **options) == text


def test_interquartile_means_ignore_the_outer_quarters() -> None:
    values = np.array([5.0, 1.0, 2.0, 3.0, 4.0, -100.0, 6.0, 100.0])
    assert interquartile_mean(values, np.ones((1, 8))).tolist() == [3.5]
    # A weight of 2 is the value twice; a quarter of six values is one and a half of them.
    twice = interquartile_mean(np.array([0.0, 1.0, 2.0, 9.0]), np.array([[1.0, 2.0, 2.0, 1.0]]))
    assert twice.tolist() == pytest.approx([1.5])
    rng = np.random.default_rng(0)
    values = rng.normal(size=400)
    assert interquartile_mean(values, np.ones((1, 400)))[0] == pytest.approx(trim_mean(values, 0.25))


def test_means_over_strata_are_unweighted() -> None:
    statistic = mean_over(["a", "a", "a", "b"])
    values = np.array([1.0, 2.0, 3.0, 10.0])
    assert statistic(values, np.ones((1, 4))).tolist() == [6.0]
    weights = np.array([[0.0, 0.0, 2.0, 1.0], [1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    assert statistic(values, weights)[:2].tolist() == [6.5, 1.5]
    assert np.isnan(statistic(values, weights)[2])


def test_intervals_of_one_bootstrap_agree_with_those_of_scipy() -> None:
    rng = np.random.default_rng(1)
    images = [("s", int(number)) for number in rng.integers(0, 40, 200)]
    values = rng.normal(size=200) + [image[1] / 20 for image in images]
    expected = bootstrap_interval(list(values), images)
    found = ClusterBootstrap(images).interval(list(values), mean_over(["x"] * 200))
    assert found.mean == pytest.approx(expected.mean)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.05)


def test_unknown_values_are_left_out_of_intervals() -> None:
    images = [("s", number) for number in range(6)]
    values = [1.0, 2.0, 3.0, 4.0, 5.0, float("nan")]
    found = ClusterBootstrap(images).interval(values, mean_over(["x"] * 6))
    assert found.mean == 3 and 1 < found.low < 3 < found.high < 5
    one = ClusterBootstrap(images[:1]).interval([1.0], mean_over(["x"]))
    assert one.mean == 1 and np.isnan(one.low)
