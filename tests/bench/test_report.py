"""The report compares figures with their targets in the right direction."""

from __future__ import annotations

from typing import Any

import pytest

from opera_env.bench.benchmarks import BENCHMARKS


def _met(name: str, result: Any) -> list[bool]:
    return [row.met for row in BENCHMARKS[name].report(result) if row.target]


@pytest.mark.parametrize(
    ("ours", "met"),
    [(1.0, [True, True]), (2.0, [True, False]), (2.1, [False, False]), (1.25, [True, True])],
)
def test_targets_of_scoring(ours: float, met: list[bool]) -> None:
    bound = {"lower_bound_s": 1.0, "lower_bound_tools_s": 0.5, "lower_bound_metrics_s": 0.5}
    result = bound | {"naive_s": 10.0, "ours_s": ours, "plans": 340, "tool_calls": 340}
    assert _met("exhaustive", result) == met


def test_targets_of_vector_environments() -> None:
    row = {"num_envs": 8, "native_sps": 12.0, "sync_sps": 10.0, "async_sps": 6.1}
    assert _met("vector", [row | {"group_size": 1}, row | {"group_size": 8}]) == [True, False]
    del row["async_sps"]
    assert _met("vector", [row | {"group_size": 1}]) == [], "without async the faster one is unknown"


def test_targets_of_large_photographs() -> None:
    def rows(rate: float, peak: float) -> list[dict[str, Any]]:
        return [
            {"megapixels": 12, "peak_gb": 1.0, "s_per_megapixel": 1.0, "tools": {"a": 1.0}},
            {"megapixels": 24, "peak_gb": peak, "s_per_megapixel": rate, "tools": {"a": rate}},
        ]

    assert _met("large", rows(1.1, 2.4)) == [True, True, True]
    assert _met("large", rows(1.2, 2.6)) == [True, False, False]
    assert _met("large", rows(0.89, 1.0)) == [True, True, False]


def test_targets_of_cotraining() -> None:
    memory, seconds = {"ours_mib": 100.0, "baseline_mib": 100.0}, {"ours_s": 1.0, "baseline_s": 1.0}
    short = {"net": "large", "length": 1, **memory, **seconds}
    long = {"net": "large", "length": 10, "ours_mib": 125.0, "baseline_mib": None}
    long |= {"ours_s": 14.0, "baseline_s": None}
    assert _met("cotraining", [short, long]) == [True, True]
    assert _met("cotraining", [short, long | {"ours_mib": 126.0, "baseline_s": 9.9}]) == [
        True,
        False,
        False,
    ]
