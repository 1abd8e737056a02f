"""Bootstrap confidence intervals over source images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from opera_env.evaluation.stats import ConfidenceInterval, bootstrap_interval, format_interval


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
