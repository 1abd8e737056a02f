"""``opera-env compare`` from words to files."""

import json
from pathlib import Path

import pytest
from PIL import Image

from opera_env.cli import main
from opera_env.tools import Toolbox


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
        words += " --max-tools 2"
        assert main([*words.split(), "--agents", "random,greedy", "--json", str(tmp_path / name)]) == 0
        rows = (tmp_path / name).with_suffix(".jsonl").read_text()
        found.append(rows)
    assert found[0] == found[1]


def test_pairs_leave_out_who_must_be_told(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blurred, sharp = tmp_path / "lq", tmp_path / "hq"
    blurred.mkdir()
    sharp.mkdir()
    for path in photos.iterdir():
        with Image.open(path) as image:
            crop = image.crop((0, 0, 64, 64))
        crop.save(sharp / path.name)
        crop.resize((32, 32)).resize((64, 64)).save(blurred / path.name)
    words = f"compare --pairs {blurred} {sharp} --n 2 --reward classic --max-tools 1 --no-regret"
    assert main(words.split()) == 0
    printed = capsys.readouterr().out
    assert "left out: matched, recipe_best; nobody knows" in printed
    assert "exhaustive" in printed and "planner" in printed.split("nobody knows")[1]


def test_another_toolbox_leaves_out_who_was_trained(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Toolbox.load("lite").subset(["unet.denoise", "brighten.constant_shift"]).save(tmp_path / "two")
    words = f"compare --images {photos} --canvas 64 --n 2 --reward classic --max-tools 1 --no-regret"
    assert main([*words.split(), "--toolbox", str(tmp_path / "two")]) == 0
    printed = capsys.readouterr().out
    assert "left out: recipe_best, planner; they were made for the tools of lite" in printed
    assert "detect" in printed


def test_more_samples_cost_more_and_the_reference_stays_hidden(photos: Path, tmp_path: Path) -> None:
    """The planner alone scores nothing; with four tries it does, blind or not."""
    words = f"compare --images {photos} --canvas 64 --n 2 --reward classic --no-regret --samples 4"
    names = "planner,planner-blind"
    assert main([*words.split(), "--agents", names, "--json", str(tmp_path / "out.json")]) == 0
    rows = json.loads((tmp_path / "out.json").read_text())["agents"]
    assert rows["planner"]["images_scored"] == rows["planner-blind"]["images_scored"] > 2
    assert rows["planner"]["reward"]["mean"] >= rows["planner-blind"]["reward"]["mean"]


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
