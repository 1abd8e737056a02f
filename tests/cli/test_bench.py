"""``opera-env bench``: its table, its file, and its errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest

from opera_env.bench.benchmarks import BENCHMARKS
from opera_env.bench.config import STUDY_TOOLS, BenchmarkName
from opera_env.cli import main


def test_every_benchmark_can_be_named() -> None:
    assert get_args(BenchmarkName) == tuple(BENCHMARKS)


@pytest.mark.slow
def test_a_table_and_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "deep" / "bench.json"
    args = ["bench", "--quick", "--device", "cpu", "--json", str(target), "--only"]
    assert main([*args, "overhead_ms"]) == 0
    printed = capsys.readouterr().out
    assert "overhead_ms" in printed and "< 1 ms" in printed and str(target) in printed
    written = json.loads(target.read_text())
    assert written["overhead_ms"].keys() == {"one_shot", "stepwise"}
    run = written["runs"]["overhead_ms"]
    assert run["tools"] == list(STUDY_TOOLS) and run["quick"] is True and "CPU" in run["machine"]

    assert main([*args, "scaling", "--tools", "brighten.gamma_correction", "unet.denoise"]) == 0
    results = json.loads(target.read_text())
    assert results["overhead_ms"] == written["overhead_ms"], "what is not measured again is kept"
    assert results["runs"]["overhead_ms"] == run, "and says with what it was measured"
    assert results["runs"]["scaling"]["tools"] == ["brighten.gamma_correction", "unet.denoise"]
    assert len(results["scaling"]["plans"]) == 3
    assert [path.name for path in target.parent.iterdir()] == ["bench.json"]


def test_one_benchmark_needs_the_repository(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("opera_env.bench.plans.SERVICE_SCRIPT", tmp_path / "service.py")
    assert main(["bench", "--quick", "--only", "service", "overhead_ms"]) == 0
    printed = capsys.readouterr().out
    assert "service: left out" in printed and "overhead_ms" in printed


@pytest.mark.parametrize("held", ["", "[1, 2]", "not json", "[" * 100_000], ids=lambda text: text[:8])
def test_a_file_without_results_is_refused_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], held: str
) -> None:
    target = tmp_path / "notes.json"
    target.write_text(held)
    assert main(["bench", "--quick", "--only", "overhead_ms", "--json", str(target)]) == 1
    printed = capsys.readouterr()
    assert "choose another name" in printed.err and "overhead_ms" not in printed.out
    assert target.read_text() == held


def test_an_unknown_benchmark_or_tool_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["bench", "--only", "everything"])
    assert caught.value.code == 2
    assert main(["bench", "--quick", "--only", "overhead_ms", "--tools", "unet.nothing"]) == 1
    assert "unet.nothing" in capsys.readouterr().err
