"""Every benchmark runs at a small size and reports its figures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from opera_env.bench.benchmarks import BENCHMARKS
from opera_env.bench.context import BenchmarkContext
from opera_env.bench.plans import SERVICE_SCRIPT
from opera_env.bench.startup import measure_starts
from opera_env.devices import supports_bfloat16
from opera_env.errors import BenchError
from opera_env.tools import Toolbox
from opera_env.tools.paper import PAPER_TOOLS, PaperTool
from tests.published_nets import SMALL

needs_lpips = pytest.mark.needs_weights("lpips")


@pytest.mark.slow
@needs_lpips
@pytest.mark.parametrize("name", ["exhaustive", "group"])
def test_scoring_is_compared_with_naive_and_lower_bound(bench: BenchmarkContext, name: str) -> None:
    result = BENCHMARKS[name].measure(bench)
    assert {"naive_s", "ours_s", "lower_bound_s"} < result.keys()
    assert all(value > 0 for value in result.values())
    assert result["naive_s"] > result["ours_s"], "sharing prefixes must help on any machine"
    assert len(list(BENCHMARKS[name].report(result))) == 4


@pytest.mark.slow
def test_scaling(bench: BenchmarkContext) -> None:
    result = BENCHMARKS["scaling"].measure(bench)
    assert [row["plans"] for row in result["plans"]] == [10, 30, 100]
    assert [row["images"] for row in result["images"]] == [1, 2, 4]
    assert all(row["ms_per_tool_call"] > 0 for rows in result.values() for row in rows)
    assert len(list(BENCHMARKS["scaling"].report(result))) == 8


def test_overhead(bench: BenchmarkContext) -> None:
    result = BENCHMARKS["overhead_ms"].measure(bench)
    assert result.keys() == {"one_shot", "stepwise"}
    assert all(0 < value < 1000 for value in result.values())


@pytest.mark.slow
def test_cotraining(bench: BenchmarkContext) -> None:
    rows = BENCHMARKS["cotraining"].measure(bench)
    assert [(row["net"], row["length"]) for row in rows] == [
        ("lite", 1),
        ("lite", 2),
        ("nafnet 0 M", 1),
        ("nafnet 0 M", 2),
    ]
    for row in rows:
        assert row["ours_s"] > 0 and row["baseline_s"] > 0
    assert len(list(BENCHMARKS["cotraining"].report(rows))) == 10


@pytest.mark.slow
def test_paper(bench: BenchmarkContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """On small networks in place of the published ones."""
    small = [PaperTool(name, "noise", *SMALL[name]) for name in ("restormer_biasfree", "xrestormer_x4")]
    monkeypatch.setattr("opera_env.tools.paper.PAPER_TOOLS", (*small, PAPER_TOOLS[-1]))
    result = BENCHMARKS["paper"].measure(bench)
    assert [(row["tool"], row["side"]) for row in result["tools"]] == [
        ("restormer_biasfree", 64),
        ("xrestormer_x4", 64),
    ]
    for row in result["tools"]:
        assert row["ms"] > 0 and row["gflop"] > 0 and row["peak_mib"] > 0
        expected = row["gflop"] / row["ms"] / result["matrix_tflops"]
        assert row["matrix_rate_share"] == pytest.approx(expected)
        assert (row["bfloat16_ms"] is not None) == supports_bfloat16()
    assert result["plans"]["images_per_second"] > 0
    assert result["limited_plans"]["images_per_second"] > 0
    assert 0 < result["limited_plans"]["weights_mb"] < 3
    assert len(list(BENCHMARKS["paper"].report(result))) == 5


@needs_lpips
@pytest.mark.slow
def test_startup(bench: BenchmarkContext) -> None:
    result = BENCHMARKS["startup"].measure(bench)
    assert all(seconds > 0 for seconds in result.values())
    assert result["python"] < result["import torch"] < result["opera-env restore"]
    assert result["opera-env --help"] < result["import torch"]
    assert len(list(BENCHMARKS["startup"].report(result))) == len(result)


def test_a_start_that_fails_is_an_error() -> None:
    with pytest.raises(BenchError, match=r"exit code 1: ZeroDivisionError"):
        measure_starts({"wrong": ("-c", "1 / 0")}, 1)


@needs_lpips
@pytest.mark.slow
def test_service(bench: BenchmarkContext) -> None:
    result = BENCHMARKS["service"].measure(bench)
    assert result["service_s"] > result["ours_s"] > 0


def test_service_outside_the_repository_is_an_error(
    bench: BenchmarkContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert SERVICE_SCRIPT.is_file()
    monkeypatch.setattr("opera_env.bench.plans.SERVICE_SCRIPT", SERVICE_SCRIPT.with_name("nothing.py"))
    with pytest.raises(BenchError, match="only in the repository"):
        BENCHMARKS["service"].measure(bench)


@pytest.mark.slow
def test_large(bench: BenchmarkContext) -> None:
    rows = BENCHMARKS["large"].measure(bench)
    assert [round(row["megapixels"]) for row in rows] == [1, 2]
    assert all(0.3 < row["peak_gb"] < 2.5 and row["s_per_megapixel"] > 0 for row in rows)


@needs_lpips
@pytest.mark.slow
def test_vector(bench: BenchmarkContext) -> None:
    threads = torch.get_num_threads()
    rows = BENCHMARKS["vector"].measure(bench)
    assert [(row["num_envs"], row["group_size"]) for row in rows] == [(8, 1), (8, 8)]
    assert all(row[key] > 0 for row in rows for key in ("native_sps", "sync_sps", "async_sps"))
    assert torch.get_num_threads() == threads, "only the worker processes are limited to one thread"


@needs_lpips
@pytest.mark.slow
def test_other_processes_load_the_same_toolbox(bench: BenchmarkContext, tmp_path: Path) -> None:
    """The toolbox is a folder whose tool names no shipped toolbox has."""
    renamed_toolbox = Toolbox([replace(tool, name=f"mine.{tool.name}") for tool in bench.toolbox])
    renamed_toolbox.save(tmp_path / "mine")
    own_bench = replace(bench, toolbox=renamed_toolbox, toolbox_name=str(tmp_path / "mine"))
    assert BENCHMARKS["service"].measure(own_bench)["service_s"] > 0
    for row in BENCHMARKS["large"].measure(own_bench):
        assert all(name.startswith("mine.") for name in row["tools"])
    assert all(row["async_sps"] > 0 for row in BENCHMARKS["vector"].measure(own_bench))
