"""``opera-env evaluate``: results, tables, stored plans, verification, and errors in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from opera_env.cli import main
from opera_env.evaluation.results import read_results
from tests.faults.processes import contents

BRIGHT = "tests.own_rewards:BRIGHT"
AGENTS = "untouched,single:unet.denoise,random"


def arguments(photos: Path, toolbox: Path, *more: object) -> list[str]:
    """A small evaluation: the sixteen combinations of the groups, one sample of each."""
    words = f"evaluate --benchmark groups-abc --hq {photos} --canvas 64 --n 1 --toolboxes {toolbox}"
    return [*words.split(), "--max-tools", "2", "--device", "cpu", *map(str, more)]


@pytest.fixture(scope="module")
def results(photos: Path, small_toolbox: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of results of three agents, judged by a reward that is quick."""
    target = tmp_path_factory.mktemp("results") / "out.jsonl"
    options = ("--agents", AGENTS, "--reward", BRIGHT, "--out", target)
    assert main(arguments(photos, small_toolbox, *options)) == 0
    return target


def test_results_are_complete(results: Path, small_toolbox: Path) -> None:
    rows = read_results(results)
    assert len(rows) == 3 * 16
    assert [row.agent for row in rows[::16]] == AGENTS.split(",")
    assert {row.toolbox for row in rows} == {f"{small_toolbox.parent.name}/{small_toolbox.name}"}
    assert {row.judge for row in rows} == {BRIGHT}
    assert str(results.parent) not in results.read_text()
    assert [path.name for path in results.parent.iterdir()] == ["out.jsonl"]


def test_tables_are_made_of_files_in_all_formats(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {name: tmp_path / f"table.{name}" for name in ("markdown", "latex", "csv", "json")}
    options = [word for name, path in files.items() for word in (f"--{name}", str(path))]
    assert main(["evaluate", "--read", str(results), "--protocol", "agenticir", *options]) == 0
    printed = capsys.readouterr().out
    assert "groups-abc: group C, protocol agenticir" in printed
    assert "paired differences to untouched" in printed
    assert all(f"tables: {path}" in printed.replace("\n", "") for path in files.values())
    assert "single:unet.denoise" in files["markdown"].read_text()
    assert r"\toprule" in files["latex"].read_text()
    assert len(json.loads(files["json"].read_text())["entries"]) == 3
    assert main(["evaluate", "--read", str(results), "--csv", "-"]) == 0
    out = capsys.readouterr().out
    assert (
        out.replace("opera", "agenticir").splitlines()[1].split(",")[:3]
        == (files["csv"].read_text().splitlines()[1].split(",")[:3])
    )


def test_each_budget_is_a_row(
    photos: Path, small_toolbox: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, table = tmp_path / "out.jsonl", tmp_path / "table.csv"
    options = ("--agents", "untouched,greedy", "--reward", BRIGHT, "--out", out, "--csv", table)
    assert main(arguments(photos, small_toolbox, *options, "--budget", "4", "1")) == 0
    rows = read_results(out)
    assert [(row.agent, row.budget) for row in rows[::16]] == [
        (agent, budget) for agent in ("untouched", "greedy") for budget in (1, 4)
    ]
    assert max(row.cost.tools_run for row in rows if row.budget == 1) == 1
    printed = capsys.readouterr().out
    assert "greedy, budget 1" in printed and "greedy, budget 4" in printed
    numbers = table.read_text().splitlines()
    place = numbers[0].split(",").index("budget")
    assert {line.split(",")[place] for line in numbers[1:] if "untouched" in line} == {"1", "4"}


def test_no_cell_of_a_table_is_cut(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--read", str(results)]) == 0
    assert "…" not in capsys.readouterr().out


def test_stored_plans_get_the_same_results(
    results: Path, photos: Path, small_toolbox: Path, tmp_path: Path
) -> None:
    rows = read_results(results)
    plans, target = tmp_path / "mine.jsonl", tmp_path / "out.jsonl"
    lines = [{"spec": row.spec.to_json(), "plan": row.plan} for row in rows[16:19]]
    plans.write_text("\n".join(map(json.dumps, lines)))
    options = ("--plans", plans, "--reward", BRIGHT, "--out", target)
    assert main(arguments(photos, small_toolbox, *options)) == 0
    for found, expected in zip(read_results(target), rows[16:19], strict=True):
        assert (found.agent, found.plan, found.r_q) == ("mine", expected.plan, expected.r_q)
        assert found.metrics == expected.metrics


def test_results_are_verified_and_a_changed_digit_is_named(
    results: Path,
    photos: Path,
    small_toolbox: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    part = tmp_path / "part.jsonl"
    lines = results.read_text().splitlines()[16:20]
    part.write_text("\n".join(lines))
    options = ("--reverify", part, "--reward", BRIGHT, "--judge", BRIGHT, "--tolerance", 0)
    assert main(arguments(photos, small_toolbox, *options)) == 0
    assert "part.jsonl: 4 results verified" in capsys.readouterr().out.replace("\n", "")
    number = json.loads(lines[2])["metrics"]["psnr_y"]
    lines[2] = lines[2].replace(repr(number), repr(number + 1))
    part.write_text("\n".join(lines))
    assert main(arguments(photos, small_toolbox, *options)) == 1
    assert "part.jsonl, line 3: expected the line as it was written" in capsys.readouterr().err


def test_verification_runs_no_code_that_only_the_file_names(
    results: Path, photos: Path, small_toolbox: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(photos, small_toolbox, "--reverify", results)) == 1
    assert f"whose code runs only if you name it: give --reward {BRIGHT}" in capsys.readouterr().err


def test_earlier_results_are_not_replaced(
    results: Path, photos: Path, small_toolbox: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(results.parent)
    assert main(arguments(photos, small_toolbox, "--out", results)) == 1
    assert "exists: choose another name, or replace it with --force" in capsys.readouterr().err
    assert contents(results.parent) == before


@pytest.mark.parametrize(
    ("args", "says", "code"),
    [
        ("--benchmark nothing", "unknown benchmark 'nothing'", 1),
        ("--benchmark rtts", "--benchmark rtts: expected --lq", 2),
        ("--n 3", "--n 3: expected nothing else than OPERA-Lite-v1 decides", 2),
        ("--agents ,", "--agents ',': expected at least one name", 2),
        ("--toolboxes nothing", "no toolbox 'nothing'", 1),
        ("--resume", "--resume: expected --out", 2),
        ("--read a --reverify b", "--read: expected no --reverify beside it", 2),
        ("--read a --out b", "--out b: expected no file for results with --read", 2),
        ("--read a --agents b", "--agents b: expected no agents with --read", 2),
        ("--read nowhere.jsonl", "nowhere.jsonl: No such file", 1),
        ("--best nowhere.jsonl", "nowhere.jsonl: No such file", 1),
        ("--markdown a --csv a", "--markdown and --csv name the same file", 1),
        ("--out pyproject.toml", "--out pyproject.toml exists", 1),
        ("--max-tools 0", "--max-tools 0", 2),
        ("--tolerance nan", "--tolerance nan", 2),
    ],
)
def test_errors_are_one_line(
    args: str,
    says: str,
    code: int,
    repository: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(repository)
    assert main(["evaluate", *args.split()]) == code
    message = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert len(message) == 1
    assert says in message[0]
