"""A small benchmark of drawn photographs, a reward without downloads, and results of a tiny toolbox."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from opera_env.evaluation.benchmarks import Benchmark, BenchmarkOptions, load_benchmark
from opera_env.evaluation.evaluate import evaluate
from opera_env.evaluation.protocols import ColumnMetrics
from opera_env.evaluation.records import EvaluationConfig
from opera_env.evaluation.results import Result
from opera_env.evaluation.toolbox_runner import Agents, ToolboxRunner
from opera_env.reward import Reward, RewardTerm
from opera_env.tools import Toolbox
from opera_env.types import Decision, Observation

PSNR = Reward("psnr only", (RewardTerm("psnr_y", 5, 40, 10),))
SSIM = Reward("ssim only", (RewardTerm("ssim_y", 0, 1, 10),))
COLUMNS = ("psnr_y", "ssim_y", "psnr_rgb", "ssim_yiq")


class Always:
    """Plans the same tools for every image."""

    closed_loop = False

    def __init__(self, *plan: str, reasoning: str | None = None) -> None:
        self.plan, self.reasoning = plan, reasoning

    def act(self, observations: Sequence[Observation]) -> list[Decision]:
        return [Decision(self.plan, reasoning=self.reasoning) for _ in observations]


AGENTS: dict[str, Any] = {
    "untouched": Always(),
    "blur": Always("tiny.blur", reasoning="It is noisy."),
    "enlarge": Always("tiny.enlarge", "tiny.brighten"),
}


@pytest.fixture(scope="session")
def columns() -> ColumnMetrics:
    return ColumnMetrics(COLUMNS)


@pytest.fixture(scope="session")
def benchmark_of(photos: Path) -> Callable[..., Benchmark]:
    """``benchmark_of(name, **options)`` makes a benchmark of small crops of drawn photographs."""

    def make(name: str = "groups-abc", **options: Any) -> Benchmark:
        return load_benchmark(name, BenchmarkOptions(**({"hq": photos, "n": 2, "canvas": 48} | options)))

    return make


@pytest.fixture(scope="session")
def benchmark(benchmark_of: Callable[..., Benchmark]) -> Benchmark:
    return benchmark_of()


@pytest.fixture(scope="session")
def make_runner(
    make_toolbox: Callable[[], Toolbox], columns: ColumnMetrics
) -> Callable[..., ToolboxRunner]:
    """``make_runner(agents, toolbox, seen, judge)`` makes a runner of a tiny toolbox."""

    def make(
        agents: Agents = AGENTS,
        toolbox: Toolbox | None = None,
        seen: Reward = PSNR,
        judge: Reward = PSNR,
        name: str = "tiny",
    ) -> ToolboxRunner:
        config = EvaluationConfig(seen, max_tools=2)
        return ToolboxRunner(name, toolbox or make_toolbox(), agents, config, judge, columns)

    return make


@pytest.fixture(scope="session")
def results(benchmark: Benchmark, make_runner: Callable[..., ToolboxRunner]) -> list[Result]:
    """Three agents on two samples of each of the sixteen combinations."""
    return evaluate(benchmark, [make_runner()])
