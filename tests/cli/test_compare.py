"""``opera-env compare`` from words to files."""

import json
from pathlib import Path

import pytest
from PIL import Image

from opera_env.cli import main


def test_writes_a_table_and_both_files(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "deep" / "results.json"
    words = f"compare --images {photos} --canvas 64 --n 3 --reward classic --max-tools 1 --json {target}"
    assert main([*words.split(), "--agents", "untouched,random,matched,greedy"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("untouched", "matched", "regret", "psnr_y"))
    summary = json.loads(target.read_text())
    assert list(summary["agents"]) == ["untouched", "random", "matched", "greedy"]
    assert summary["config"]["samples"] == 3
    assert set(summary["groups"]["greedy"]) == {"A", "B", "C"}
    rows = [json.loads(line) for line in target.with_suffix(".jsonl").read_text().splitlines()]
    assert len(rows) == 4 * 3
    assert {"agent", "spec", "plan", "reward", "metrics", "regret"} <= set(rows[0])
    assert sorted(path.name for path in target.parent.iterdir()) == ["results.json", "results.jsonl"]


def test_same_seed_same_figures(photos: Path, tmp_path: Path) -> None:
    found = []
    for name in ("a", "b"):
        words = f"compare --images {photos} --canvas 64 --n 2 --reward classic --no-regret --seed 5"
        assert main([*words.split(), "--agents", "random,greedy", "--json", str(tmp_path / name)]) == 0
        rows = (tmp_path / name).with_suffix(".jsonl").read_text()
        found.append(rows)
    assert found[0] == found[1]


def test_pairs_leave_matched_out(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    worse = tmp_path / "lq"
    worse.mkdir()
    for path in photos.iterdir():
        with Image.open(path) as picture:
            picture.resize((picture.width // 2, picture.height // 2)).resize(picture.size).save(
                worse / path.name
            )
    words = f"compare --pairs {worse} {photos} --n 2 --reward classic --max-tools 1 --no-regret"
    assert main(words.split()) == 0
    printed = capsys.readouterr().out
    assert "matched is left out" in printed
    assert "exhaustive" in printed


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--images nowhere", "nowhere"),
        ("--agents nobody", "nobody"),
        ("--toolbox nothing", "nothing"),
        ("--n 0", "--n"),
        ("--reward nonsense", "nonsense"),
        ("--images a --benchmark b", "not several"),
    ],
)
def test_errors_are_one_line(words: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = [] if "--n" in words else ["--n", "1"]
    assert main(["compare", *options, *words.split()]) == 1
    message = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert len(message) == 1
    assert says in message[0]


@pytest.mark.parametrize("command", [[], ["compare"], ["weights"]])
def test_help(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*command, "--help"])
    assert stop.value.code == 0
    assert "opera-env" in capsys.readouterr().out
