"""``opera-env restore``: options and arguments that are refused, and those that name no photograph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from opera_env.cli import main

PLAN = "brighten.gamma_correction"


@pytest.mark.parametrize(
    ("code", "args", "says"),
    [
        (1, ("--agent", "nobody"), "unknown agent 'nobody'"),
        (1, ("--agent", "no_module:Agent"), "no_module"),
        (1, ("--plan", "no.tool"), "unknown tool 'no.tool'"),
        (1, ("--plan", f"{PLAN},,"), "between two commas"),
        (1, ("--toolbox", "nothing"), "no toolbox 'nothing'"),
        (2, ("--scale", "0"), "--scale 0: expected a number of at least 1"),
        (2, ("--quality", "101"), "--quality 101: expected a number from 1 to 100"),
        (2, ("--max-memory", "0"), "--max-memory"),
        (2, ("--max-memory", "nan"), "--max-memory"),
        (2, ("--max-memory", "inf"), "--max-memory"),
        (2, ("--window", "-1"), "--window"),
        (2, ("--max-tools", "0"), "--max-tools"),
        (1, ("--device", "abacus"), "abacus"),
        (2, ("--agent", "random", "--plan", PLAN), f"--plan '{PLAN}': expected no --agent"),
        (2, ("--agent", "random", "--fix", "noise"), "--fix 'noise': expected no --agent"),
        (2, ("--fix", "noise", "--plan", PLAN), f"--plan '{PLAN}': expected no --fix"),
        (1, ("--fix", "fog"), "unknown degradation 'fog'; use one of"),
        (2, ("--fix", ","), "--fix ',': expected names of degradations"),
        (2, ("--tool-cost", "nan"), "--tool-cost"),
        (2, ("--agent", "planner", "--fix", "noise"), "--fix 'noise': expected no --agent"),
        (2, ("--agent", "planner", "--plan", PLAN), f"--plan '{PLAN}': expected no --agent"),
        (2, ("--max-seconds", "0"), "--max-seconds"),
        (2, ("--max-seconds", "nan"), "--max-seconds"),
        (2, ("--num-plans", "1000000"), "--num-plans 1000000: expected a number from 1 to 1000"),
        (2, ("--max-tools", "1000000"), "--max-tools 1000000: expected a number from 1 to 100"),
    ],
)
def test_bad_options_are_named_before_anything_is_written(
    code: int, args: tuple[str, ...], says: str, run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = () if {"--agent", "--plan", "--fix"} & {*args} else ("--plan", PLAN)
    assert run.restore(*plan, *args) == code
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert says in message
    assert message.count("\n") == 1
    assert not run.out.exists()


@pytest.mark.parametrize("inputs", [[], ["empty"]])
def test_nothing_to_restore_is_an_error(
    inputs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    names = [str(tmp_path / name) for name in inputs]
    assert main(["restore", *names, "-o", str(tmp_path / "out"), "--plan", PLAN]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_an_empty_output_name_is_refused(
    run: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be the current folder."""
    folder = run.folder.parent / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert main(["restore", str(run.folder), "-o", "", "--plan", ""]) == 2
    assert "--out '': expected a folder or a file" in capsys.readouterr().err
    assert list(folder.iterdir()) == []


def test_arguments_without_photographs_are_reported_beside_others(run: Any) -> None:
    (run.folder / "dir.png").mkdir()
    inputs = [run.folder / "a.png", run.folder / "dir.png", run.folder / "*.tif"]
    code, records = run.report("--plan", PLAN, inputs=inputs)
    assert (code, [record["status"] for record in records]) == (1, ["restored", "failed", "failed"])
    assert "no photographs in this folder" in records[1]["error"]
    assert "no photograph has a name of this pattern" in records[2]["error"]


def test_a_photograph_that_takes_too_long_fails_alone(run: Any) -> None:
    args = ["--plan", ",".join([PLAN] * 50), "--max-seconds", "0.000001"]
    code, records = run.report(*args)
    assert (code, [record["status"] for record in records]) == (1, ["failed", "failed"])
    assert "not restored within 1e-06 s" in records[0]["error"]
    assert run.results() == []


def test_an_empty_name_is_refused(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["restore", "", "-o", str(run.out), "--plan", ""]) == 1
    assert "found an empty name" in capsys.readouterr().err
    assert run.results() == []
