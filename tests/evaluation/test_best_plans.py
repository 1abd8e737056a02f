"""Best known plans: no other short plan is better, and they come back from their file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from opera_env.errors import ResultsError
from opera_env.evaluation.benchmarks import Benchmark
from opera_env.evaluation.best_plans import (
    BestPlan,
    BestPlans,
    best_of_sample,
    read_best_plans,
    write_best_plans,
)
from opera_env.evaluation.judging import Judge
from opera_env.evaluation.protocols import ColumnMetrics
from opera_env.evaluation.records import EvaluationConfig
from opera_env.evaluation.results import Result, spec_digest
from opera_env.evaluation.scorers import CachingScorer
from opera_env.scoring import PlanScorer
from opera_env.search import all_plans
from opera_env.tools import Toolbox
from opera_env.types import Sample
from tests.evaluation.conftest import PSNR

CONFIG = EvaluationConfig(PSNR, max_tools=3, frozen_max_length=1, frozen_beam_width=1)


@pytest.fixture(scope="module")
def sample(benchmark: Benchmark) -> Sample:
    return benchmark.make(benchmark.samples[4])


@pytest.fixture(scope="module")
def judge(make_toolbox: Callable[[], Toolbox]) -> Judge:
    return Judge(make_toolbox(), PSNR, PSNR, ColumnMetrics(()))


def best_of(sample: Sample, judge: Judge, toolbox: Toolbox, **options: object) -> BestPlan:
    scorer = CachingScorer(PlanScorer(toolbox, PSNR))
    return best_of_sample(sample, judge, scorer, CONFIG, **options)  # pyright: ignore


def test_no_short_plan_is_better(sample: Sample, judge: Judge, toolbox: Toolbox) -> None:
    best = best_of(sample, judge, toolbox)
    for plan in all_plans(toolbox.names, 1):
        assert judge.score(sample, plan).r_q <= best.r_q + 1e-3
    assert best.r_q == judge.score(sample, best.plan).r_q
    assert best.input_r_q == judge.score(sample, ()).r_q


def test_a_better_plan_of_others_is_taken(sample: Sample, judge: Judge, toolbox: Toolbox) -> None:
    alone = best_of(sample, judge, toolbox)
    plans = all_plans(toolbox.names, 3)
    better = max(plans, key=lambda plan: judge.score(sample, plan).r_q)
    best = best_of(sample, judge, toolbox, more=[better])
    assert best.r_q == max(alone.r_q, judge.score(sample, better).r_q)


def test_files_are_read_as_they_were_written(results: list[Result], tmp_path: Path) -> None:
    first = results[0]
    plan = BestPlan(first.spec, ("tiny.blur",), 7.25, 5.5)
    best = BestPlans(
        first.benchmark, first.signature, first.fingerprint, first.judge, {spec_digest(plan.spec): plan}
    )
    path = tmp_path / "best.jsonl"
    write_best_plans(best, path)
    assert read_best_plans(path) == best
    assert best.normalise(replace(first, r_q=6.25, input_r_q=5.5)) == pytest.approx(0.75 / 1.75)


def test_other_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "best.jsonl"
    for text in ("", "[]", '{"benchmark": "a"}'):
        path.write_text(text)
        with pytest.raises(ResultsError, match=r"best\.jsonl, line 1: expected"):
            read_best_plans(path)
