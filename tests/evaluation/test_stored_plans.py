"""Stored plans are judged as those of agents; stored results are verified by running their plans again."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from opera_env.errors import ResultsError
from opera_env.evaluation.benchmarks import Benchmark
from opera_env.evaluation.results import Result, format_line
from opera_env.evaluation.stored_plans import Finding, judge_plans, read_plans, reverify
from opera_env.evaluation.toolbox_runner import ToolboxRunner
from opera_env.tools import Toolbox

Runner = Callable[..., ToolboxRunner]


def numbered(results: list[Result]) -> list[tuple[int, Result]]:
    return list(enumerate(results, 1))


def test_results_of_plans_are_those_of_their_agents(
    results: list[Result], benchmark: Benchmark, make_runner: Runner, tmp_path: Path
) -> None:
    path = tmp_path / "plans.jsonl"
    chosen = [row for row in results if row.agent == "blur"][:3]
    lines = [{"spec": row.spec.to_json(), "plan": row.plan} for row in chosen]
    path.write_text("\n".join(map(json.dumps, lines)))
    found = judge_plans(read_plans(path, benchmark), path, benchmark, make_runner(()))
    for result, expected in zip(found, chosen, strict=True):
        assert result.agent == "plans"
        assert (result.r_q, result.metrics) == (expected.r_q, expected.metrics)
        assert (result.group, result.combination) == (expected.group, expected.combination)


def test_a_file_of_results_is_a_file_of_plans(
    results: list[Result], benchmark: Benchmark, tmp_path: Path
) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text("\n".join(map(format_line, results)))
    plans = read_plans(path, benchmark)
    assert [(each.agent, each.plan, each.sample.spec) for each in plans] == [
        (result.agent, result.plan, result.spec) for result in results
    ]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"plan": ["tiny.unknown"]}, "line 2: expected tools of tiny, found 'tiny.unknown'"),
        ({"plan": "tiny.blur"}, "line 2: expected 'plan' to be a list"),
        ({"spec": {"index": 0}}, "line 2: not a sample specification"),
        ({"agent": 3}, "line 2: expected 'agent' to be a text"),
        ({}, "line 2: expected one plan of plans for a sample, found another in line 1"),
    ],
    ids=str,
)
def test_what_is_no_plan_is_named_with_its_line(
    change: dict[str, object],
    says: str,
    results: list[Result],
    benchmark: Benchmark,
    make_runner: Runner,
    tmp_path: Path,
) -> None:
    path = tmp_path / "plans.jsonl"
    line = {"spec": results[0].spec.to_json(), "plan": ["tiny.blur"]}
    other = {**line, "spec": results[1].spec.to_json()} if change else line
    path.write_text(f"{json.dumps(line)}\n{json.dumps(other | change)}\n")
    with pytest.raises(ResultsError, match=says):
        judge_plans(read_plans(path, benchmark), path, benchmark, make_runner(()))


def test_unchanged_results_are_verified(
    results: list[Result], benchmark: Benchmark, make_runner: Runner
) -> None:
    assert reverify(numbered(results[::5]), benchmark, [make_runner(())], tolerance=0) == []


def test_every_figure_that_has_moved_is_named_with_its_line(
    results: list[Result], benchmark: Benchmark, make_runner: Runner
) -> None:
    moved = replace(results[1], r_q=results[1].r_q + 0.1)
    moved = replace(moved, metrics=dict(moved.metrics) | {"ssim_y": moved.metrics["ssim_y"] + 0.01})
    findings = reverify(numbered([results[0], moved]), benchmark, [make_runner(())])
    assert [finding.line for finding in findings] == [2, 2]
    assert {finding.what.partition(":")[0] for finding in findings} == {"r_q", "ssim_y"}


def test_movements_within_the_tolerance_are_not_named(
    results: list[Result], benchmark: Benchmark, make_runner: Runner
) -> None:
    moved = replace(results[1], r_q=results[1].r_q + 0.01)
    assert reverify([(1, moved)], benchmark, [make_runner(())]) == []
    assert len(reverify([(1, moved)], benchmark, [make_runner(())], tolerance=0.001)) == 1


def test_other_tools_other_images_and_absent_metrics_are_named(
    results: list[Result], benchmark: Benchmark, make_runner: Runner, toolbox: Toolbox
) -> None:
    module = toolbox["tiny.blur"].module
    assert module is not None
    with torch.no_grad():
        next(module.parameters()).mul_(0.5)
    runners = [make_runner((), toolbox)]
    (finding,) = reverify(numbered(results[:1]), benchmark, runners)
    assert finding == Finding(1, f"made with tiny {results[0].fingerprint}, which is not here")
    other = replace(results[0], input="1" * 64)
    (finding,) = reverify([(7, other)], benchmark, [make_runner(())])
    assert finding.line == 7 and "expected the degraded image 1111" in finding.what
    more = replace(results[0], metrics=dict(results[0].metrics) | {"musiq": 50.0})
    (finding,) = reverify([(1, more)], benchmark, [make_runner(())])
    assert finding.what.startswith("musiq: not computed here")
