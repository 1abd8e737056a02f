"""The benchmark measures what it says: each part at a small size, and the figures read out of it."""

from __future__ import annotations

import mmap
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from opera_env.bench import FOUR, PARTS, BenchmarkContext
from opera_env.bench.floor import applications
from opera_env.bench.naive import pyiqa_metrics, score_naively
from opera_env.bench.plans import SERVICE_SCRIPT
from opera_env.bench.settings import peak_memory
from opera_env.errors import BenchError
from opera_env.execution import Executor
from opera_env.scoring import PlanScorer
from opera_env.search import all_plans
from opera_env.tools import Toolbox

needs_lpips = pytest.mark.needs_weights("lpips")


@pytest.fixture(scope="module")
def bench() -> BenchmarkContext:
    return BenchmarkContext(Toolbox.load("lite").subset(FOUR), quick=True)


@needs_lpips
def test_the_naive_way_and_ours_agree(bench: BenchmarkContext) -> None:
    """Every fast metric is pyiqa's, and every shared, batched plan the plan from the beginning."""
    judge = pyiqa_metrics(bench.device)
    pairs = [(sample, plan) for sample in bench.samples for plan in all_plans(FOUR, 2)[::3]]
    outcomes = PlanScorer(bench.toolbox).score([sample for sample, _ in pairs], [plan for _, plan in pairs])
    for (sample, plan), outcome in zip(pairs, outcomes, strict=True):
        naive = score_naively(bench.toolbox, sample, plan, judge)
        assert outcome.metrics["psnr_y"] == pytest.approx(naive["psnr_y"], abs=2e-3)
        assert outcome.metrics["ssim_y"] == pytest.approx(naive["ssim_y"], abs=1e-4)
        assert outcome.metrics["lpips"] == pytest.approx(naive["lpips"], abs=2e-4)
        assert outcome.metrics["niqe32"] == pytest.approx(naive["niqe32"], rel=0.05)
        assert outcome.metrics["piqe"] == pytest.approx(naive["piqe"], abs=1.5), "a block over a threshold"


def test_applications_are_those_that_run(bench: BenchmarkContext) -> None:
    samples = [sample for sample in bench.samples for _ in range(6)]
    plans = bench.random_plans(len(samples), 5)
    executor = Executor(bench.toolbox)
    list(executor.run(samples, plans))
    counted = applications(bench, samples, plans)
    assert sum(counted.values()) == executor.tools_run
    assert {name for name, _, _ in counted} == set(FOUR)


def test_applications_know_what_grows() -> None:
    toolbox = Toolbox.load("lite").subset(["unet.super_resolution_lpips", "unet.denoise"])
    bench = BenchmarkContext(toolbox, quick=True)
    small = next(
        sample for sample in BenchmarkContext(toolbox, seed=0).samples if sample.lq.shape[-1] == 32
    )
    counted = applications(
        bench, [small], [("unet.denoise", "unet.super_resolution_lpips", "unet.denoise")]
    )
    canvas = (128, 128)
    assert counted == {
        ("unet.denoise", (32, 32), canvas): 1,
        ("unet.super_resolution_lpips", (32, 32), canvas): 1,
        ("unet.denoise", (128, 128), canvas): 1,
    }


@needs_lpips
@pytest.mark.parametrize("name", ["exhaustive", "group"])
def test_beside_naive_and_floor(bench: BenchmarkContext, name: str) -> None:
    result = PARTS[name].measure(bench)
    assert {"naive_s", "ours_s", "floor_s"} < result.keys()
    assert all(value > 0 for value in result.values())
    assert result["naive_s"] > result["ours_s"], "else something is wrong, whatever the machine"
    assert len(list(PARTS[name].figures(result))) == 4


def test_growth(bench: BenchmarkContext) -> None:
    result = PARTS["growth"].measure(bench)
    assert [row["plans"] for row in result["plans"]] == [10, 30, 100]
    assert [row["images"] for row in result["images"]] == [1, 2, 4]
    assert all(row["ms_per_application"] > 0 for rows in result.values() for row in rows)
    assert len(list(PARTS["growth"].figures(result))) == 8


def test_overhead(bench: BenchmarkContext) -> None:
    result = PARTS["overhead_ms"].measure(bench)
    assert result.keys() == {"one_shot", "stepwise"}
    assert all(0 < value < 1000 for value in result.values())


def test_cotrain(bench: BenchmarkContext) -> None:
    rows = PARTS["cotrain"].measure(bench)
    assert [(row["net"], row["length"]) for row in rows] == [
        ("lite", 1),
        ("lite", 2),
        ("nafnet 0 M", 1),
        ("nafnet 0 M", 2),
    ]
    for row in rows:
        assert row["ours_s"] > 0 and row["plain_s"] > 0
    assert len(list(PARTS["cotrain"].figures(rows))) == 10


def test_goals_of_cotrain() -> None:
    short = {
        "net": "large",
        "length": 1,
        "ours_mib": 100.0,
        "plain_mib": 100.0,
        "ours_s": 1.0,
        "plain_s": 1.0,
    }
    long = short | {"length": 10, "ours_mib": 125.0, "plain_mib": None, "ours_s": 14.0, "plain_s": None}
    assert _marks("cotrain", [short, long]) == [True, True]
    assert _marks("cotrain", [short, long | {"ours_mib": 126.0, "plain_s": 9.9}]) == [True, False, False]


@needs_lpips
@pytest.mark.slow
def test_the_service(bench: BenchmarkContext) -> None:
    result = PARTS["service"].measure(bench)
    assert result["service_s"] > result["ours_s"] > 0


@pytest.mark.slow
def test_large(bench: BenchmarkContext) -> None:
    rows = PARTS["large"].measure(bench)
    assert [round(row["megapixels"]) for row in rows] == [1, 2]
    assert all(0.3 < row["peak_gb"] < 2.5 and row["s_per_megapixel"] > 0 for row in rows)


@needs_lpips
@pytest.mark.slow
def test_vector(bench: BenchmarkContext) -> None:
    threads = torch.get_num_threads()
    rows = PARTS["vector"].measure(bench)
    assert [(row["num_envs"], row["group_size"]) for row in rows] == [(8, 1), (8, 8)]
    assert all(row[key] > 0 for row in rows for key in ("ours_sps", "sync_sps", "async_sps"))
    assert torch.get_num_threads() == threads, "only the workers have one thread"


def test_outside_the_repository_there_is_no_service(
    bench: BenchmarkContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert SERVICE_SCRIPT.is_file()
    monkeypatch.setattr("opera_env.bench.plans.SERVICE_SCRIPT", SERVICE_SCRIPT.with_name("nothing.py"))
    with pytest.raises(BenchError, match="only in the repository"):
        PARTS["service"].measure(bench)


def _marks(name: str, result: Any) -> list[bool]:
    return [figure.met for figure in PARTS[name].figures(result) if figure.goal]


@pytest.mark.parametrize(
    ("ours", "met"),
    [(1.0, [True, True]), (2.0, [True, False]), (2.1, [False, False]), (1.25, [True, True])],
)
def test_goals_of_plans(ours: float, met: list[bool]) -> None:
    result = {"naive_s": 10.0, "ours_s": ours, "floor_s": 1.0, "floor_tools_s": 0.5, "floor_metrics_s": 0.5}
    assert _marks("exhaustive", result | {"plans": 340, "applications": 340}) == met


def test_goals_of_environments() -> None:
    row = {"num_envs": 8, "ours_sps": 12.0, "sync_sps": 10.0, "async_sps": 6.1}
    assert _marks("vector", [row | {"group_size": 1}, row | {"group_size": 8}]) == [True, False]
    del row["async_sps"]
    assert _marks("vector", [row | {"group_size": 1}]) == [], "the better one is not known"


def test_goals_of_size() -> None:
    def rows(rate: float, peak: float) -> list[dict[str, Any]]:
        return [
            {"megapixels": 12, "peak_gb": 1.0, "s_per_megapixel": 1.0, "tools": {"a": 1.0}},
            {"megapixels": 24, "peak_gb": peak, "s_per_megapixel": rate, "tools": {"a": rate}},
        ]

    assert _marks("large", rows(1.1, 2.4)) == [True, True, True]
    assert _marks("large", rows(1.2, 2.6)) == [True, False, False]
    assert _marks("large", rows(0.89, 1.0)) == [True, True, False]


def test_peak_memory_sees_what_comes_and_goes() -> None:
    """Memory from the system itself: an allocator may keep what it was given, and give it again."""
    size = 256 * 2**20
    with peak_memory(torch.device("cpu")) as before:
        pass
    with peak_memory(torch.device("cpu")) as peak, mmap.mmap(-1, size) as held:
        held.write(b"x" * size)
        time.sleep(0.05)
    assert peak.bytes > before.bytes + size // 2


def test_what_is_measured_is_what_is_said(bench: BenchmarkContext) -> None:
    assert 0.05 <= bench.seconds(lambda: time.sleep(0.05)) < 0.5
    assert bench.random_plans(50, 6) == bench.random_plans(50, 6)
    assert {len(plan) for plan in bench.random_plans(200, 6)} == {1, 2, 3, 4, 5, 6}
    plans = bench.distinct_plans(300)
    assert len(set(plans)) == 300 and max(map(len, plans)) == 5
    assert len({sample.key for sample in bench.samples}) == len(bench.samples) == 4


def test_growth_of_one_tool_is_told() -> None:
    bench = BenchmarkContext(Toolbox.load("lite").subset(FOUR[:1]), quick=True)
    with pytest.raises(BenchError, match="two tools"):
        PARTS["growth"].measure(bench)


@needs_lpips
@pytest.mark.slow
def test_other_processes_take_the_same_toolbox(bench: BenchmarkContext, tmp_path: Path) -> None:
    """A folder of one's own, with names that no shipped toolbox has."""
    mine = Toolbox([replace(tool, name=f"mine.{tool.name}") for tool in bench.toolbox])
    mine.save(tmp_path / "mine")
    own = replace(bench, toolbox=mine, pool=str(tmp_path / "mine"))
    assert PARTS["service"].measure(own)["service_s"] > 0
    assert all(name.startswith("mine.") for row in PARTS["large"].measure(own) for name in row["tools"])
    assert all(row["async_sps"] > 0 for row in PARTS["vector"].measure(own))
