"""The page of results is what the files in ``results`` say; a random line of each file is run again."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from opera_env.errors import ResultsError, SettingError
from opera_env.evaluation.benchmarks import VERSIONS, BenchmarkOptions, load_benchmark
from opera_env.evaluation.benchmarks.versioned import version_samples
from opera_env.evaluation.best_plans import BestPlan, BestPlans, read_best_plans, write_best_plans
from opera_env.evaluation.evaluate import evaluate
from opera_env.evaluation.protocols import ColumnMetrics
from opera_env.evaluation.records import EvaluationConfig
from opera_env.evaluation.results import Result, format_line, numbered_results, spec_digest
from opera_env.evaluation.results_page import best_files, entry_files, read_entry, results_page
from opera_env.evaluation.stored_plans import Finding, reverify
from opera_env.evaluation.toolbox_runner import ToolboxRunner
from opera_env.tools import Toolbox
from opera_env.tools.toolbox import shipped_toolboxes
from tests.evaluation.conftest import AGENTS

LITE = "OPERA-Lite-v1"
ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "results"


def verify_a_random_line(path: Path, runners: list[ToolboxRunner], hq: Path | None = None) -> list[Finding]:
    """Runs the plan of one line again; returns what has moved."""
    numbered = random.choice(numbered_results(path))
    benchmark = load_benchmark(numbered[1].benchmark, BenchmarkOptions(hq=hq))
    return reverify([numbered], benchmark, runners)


def complete(results: list[Result], agent: str) -> list[Result]:
    """Returns an entry on all samples of OPERA-Lite-v1; all of them have the figures of one result."""
    row = next(result for result in results if result.agent == agent)
    return [
        replace(
            row,
            benchmark=LITE,
            spec=sample.spec,
            group=sample.group,
            combination=sample.combination,
        )
        for sample in version_samples(LITE)
    ]


def write(rows: list[Result], path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(format_line(row) + "\n" for row in rows))
    return path


def test_each_file_is_a_row(results: list[Result], tmp_path: Path) -> None:
    rows = {agent: complete(results, agent) for agent in ("untouched", "blur")}
    for agent, entry in rows.items():
        write(entry, tmp_path / LITE / f"{agent}.jsonl")
    first = rows["untouched"][0]
    plans = {
        spec_digest(row.spec): BestPlan(row.spec, (), row.input_r_q + 4, row.input_r_q)
        for row in rows["blur"]
    }
    (tmp_path / LITE / "best").mkdir()
    write_best_plans(
        BestPlans(LITE, first.signature, first.fingerprint, first.judge, plans),
        tmp_path / LITE / "best" / "tiny.jsonl",
    )
    page = results_page(tmp_path)
    lines = [line for line in page.splitlines() if line.startswith("| ")][2:]
    best_first = sorted(rows, key=lambda agent: -rows[agent][0].r_q)
    assert [line.split(" | ")[0].strip("| ") for line in lines] == best_first
    assert f"[blur](../results/{LITE}/blur.jsonl)" in page
    (blur,) = [line for line in lines if line.startswith("| blur")]
    assert f"{rows['blur'][0].gain / 4:.3f} [" in blur
    psnr = f"{rows['blur'][0].metrics['psnr_y']:.2f}"
    assert f"| {psnr} / {psnr} / {psnr} |" in blur


def test_a_file_is_one_complete_entry(results: list[Result], tmp_path: Path) -> None:
    entry = complete(results, "blur")
    with pytest.raises(ResultsError, match="expected one agent and toolbox, found 2"):
        read_entry(write([*entry, replace(entry[0], agent="other")], tmp_path / "a.jsonl"), LITE)
    with pytest.raises(ResultsError, match="expected results on OPERA-BSDS-v1, found OPERA-Lite-v1"):
        read_entry(write(entry, tmp_path / "a.jsonl"), "OPERA-BSDS-v1")
    with pytest.raises(ResultsError, match="expected the 128 samples of OPERA-Lite-v1, found 127"):
        read_entry(write(entry[1:], tmp_path / "a.jsonl"), LITE)


def test_a_line_of_an_entry_can_be_verified(
    make_runner: Callable[..., ToolboxRunner], tmp_path: Path
) -> None:
    benchmark = load_benchmark(LITE)
    part = replace(benchmark, samples=benchmark.samples[::60])
    found = evaluate(part, [make_runner({"blur": AGENTS["blur"]})])
    path = write(found, tmp_path / "entry.jsonl")
    assert verify_a_random_line(path, [make_runner(())]) == []
    write([replace(row, r_q=row.r_q + 1) for row in found], path)
    (finding,) = verify_a_random_line(path, [make_runner(())])
    assert finding.what.startswith("r_q: ")


def test_the_page_is_generated_from_the_files() -> None:
    """If this fails: ``python scripts/results_page.py``."""
    assert (ROOT / "docs" / "results.md").read_text() == results_page(RESULTS)


@pytest.mark.parametrize("name", VERSIONS)
def test_best_known_plans_are_of_the_tools_that_are_shipped(name: str) -> None:
    """If this fails, a tool has changed: make the table again with ``scripts/best_known_plans.py``."""
    for path in best_files(RESULTS / name):
        best = read_best_plans(path)
        assert best.benchmark == name
        assert best.plans.keys() == {spec_digest(sample.spec) for sample in version_samples(name)}
        if path.stem in shipped_toolboxes():
            assert best.fingerprint == Toolbox.load(path.stem).fingerprint, path


@pytest.mark.parametrize("name", VERSIONS)
def test_a_random_line_of_each_file_is_right(name: str, shared_data: Path) -> None:
    """With the toolboxes that are shipped now; entries of other toolboxes are read only."""
    hq = shared_data / "bsds500" / "val" if VERSIONS[name].images == "bsds500-val" else None
    files = entry_files(RESULTS / name)
    if files and hq is not None and not hq.is_dir():
        pytest.skip(f"the photographs of {name} are absent: {hq}")
    fingerprints = {toolbox: Toolbox.load(toolbox).fingerprint for toolbox in shipped_toolboxes() if files}
    for path in files:
        first = read_entry(path, name)[0]
        if fingerprints.get(first.toolbox) != first.fingerprint:
            continue
        runner = ToolboxRunner(
            first.toolbox,
            Toolbox.load(first.toolbox),
            (),
            EvaluationConfig(first.reward),
            first.judge,
            ColumnMetrics(first.metrics),
        )
        assert verify_a_random_line(path, [runner], hq) == [], path


def test_the_photographs_of_a_version_are_needed_to_verify_it() -> None:
    with pytest.raises(SettingError, match="--hq"):
        load_benchmark("OPERA-BSDS-v1")
