"""``opera-env compare``: tables, files, picture sheet, and the choice of agents."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from opera_env.agents import agent_names
from opera_env.cli import main
from opera_env.cli.compare import DEFAULT_AGENTS, SLOW_AGENTS
from opera_env.cli.compare_report import SHIPPED_AGENTS
from opera_env.data import clean_folder
from opera_env.tools import Toolbox
from opera_env.types import Decision, Observation
from tests.degradations.own import Vignette


def test_writes_a_table_and_both_files(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "deep" / "results.json"
    args = f"compare --images {photos} --canvas 64 --n 3 --reward classic --max-tools 1 --json {target}"
    args += " --regret --no-sheet"
    assert main([*args.split(), "--agents", "untouched,random,matched,greedy"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("untouched", "matched", "regret", "psnr_y"))
    assert f"results: {target}" in printed
    summary = json.loads(target.read_text())
    assert list(summary["agents"]) == ["untouched", "random", "matched", "greedy"]
    config = summary["config"]
    assert (config["num_samples"], config["num_plans"]) == (3, 1)
    assert (config["images"], config["canvas"], config["seed"]) == ([str(photos)], 64, 0)
    assert set(summary["groups"]["greedy"]) == {"A", "B", "C"}
    rows = [json.loads(line) for line in target.with_suffix(".jsonl").read_text().splitlines()]
    assert len(rows) == 4 * 3
    assert {"agent", "spec", "plan", "reward", "metrics", "regret"} <= set(rows[0])
    assert sorted(path.name for path in target.parent.iterdir()) == ["results.json", "results.jsonl"]


def test_the_same_seed_gives_the_same_results(photos: Path, tmp_path: Path) -> None:
    actual = []
    for name in ("a", "b"):
        args = f"compare --images {photos} --canvas 64 --n 2 --reward classic --no-sheet --seed 5"
        args += " --max-tools 2"
        assert main([*args.split(), "--agents", "random,greedy", "--json", str(tmp_path / name)]) == 0
        rows = (tmp_path / name).with_suffix(".jsonl").read_text()
        actual.append(rows)
    assert actual[0] == actual[1]


def test_pairs_leave_out_agents_that_need_labels(
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
    args = f"compare --pairs {blurred} {sharp} --n 2 --reward classic --max-tools 1 --no-sheet"
    assert main(args.split()) == 0
    printed = capsys.readouterr().out
    assert "left out: matched, recipe_best; they need the degradations" in printed
    assert "planner" in printed and "greedy-blind" in printed and "exhaustive" not in printed
    assert "benchmark group" not in printed


def test_another_toolbox_leaves_out_agents_trained_for_lite(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Toolbox.load("lite").subset(["unet.denoise", "brighten.constant_shift"]).save(tmp_path / "two")
    args = f"compare --images {photos} --canvas 64 --n 2 --reward classic --max-tools 1 --no-sheet"
    assert main([*args.split(), "--toolbox", str(tmp_path / "two")]) == 0
    printed = capsys.readouterr().out
    assert "left out: recipe_best, planner, ppo; they were made for the tools of lite" in printed
    assert "detect" in printed


def test_more_plans_cost_more_and_the_reference_stays_hidden(photos: Path, tmp_path: Path) -> None:
    """The planner alone scores nothing; with four plans it does, blind or not."""
    args = f"compare --images {photos} --canvas 64 --n 2 --reward classic --no-sheet --num-plans 4"
    names = "planner,planner-blind"
    assert main([*args.split(), "--agents", names, "--json", str(tmp_path / "out.json")]) == 0
    rows = json.loads((tmp_path / "out.json").read_text())["agents"]
    assert rows["planner"]["images_scored"] == rows["planner-blind"]["images_scored"] > 2
    assert rows["planner"]["reward"]["mean"] >= rows["planner-blind"]["reward"]["mean"]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ("--images nowhere", "nowhere"),
        ("--agents unknown_agent", "unknown_agent"),
        ("--toolbox nothing", "nothing"),
        ("--n 0", "--n"),
        ("--num-plans 0", "--num-plans"),
        ("--max-tools 0", "--max-tools"),
        ("--tool-cost nan", "--tool-cost"),
        ("--reward nonsense", "nonsense"),
        ("--images a --benchmark b", "not several"),
    ],
)
def test_errors_are_one_line(args: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = [] if "--n " in args else ["--n", "1"]
    assert main(["compare", *options, *args.split()]) == 1
    message = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert len(message) == 1
    assert says in message[0]


def small_comparison(photos: Path, *more: str) -> list[str]:
    """A comparison of three agents that takes no time."""
    args = f"compare --images {photos} --canvas 64 --n 2 --reward classic --agents untouched,detect,random"
    return [*args.split(), *more]


def test_the_sheet_is_written_to_a_new_file_each_time(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for number in (1, 2):
        assert main(small_comparison(photos)) == 0
        last = capsys.readouterr().out.rstrip().splitlines()[-1]
        assert last == f"pictures: results/compare-{number}.jpg"
    first, second = (Path(f"results/compare-{number}.jpg").read_bytes() for number in (1, 2))
    assert first == second
    with Image.open("results/compare-1.jpg") as sheet:
        assert sheet.format == "JPEG"
        assert sheet.width > 4 * 180, "input, two agents, reference"


def test_the_sheet_can_be_named_or_left_out(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(small_comparison(photos, "--sheet", "mine.png")) == 0
    assert main(small_comparison(photos, "--no-sheet")) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["mine.png"]


class LeaveAlone:
    """An agent of the user's own, in this module."""

    closed_loop = False

    def act(self, observations: Sequence[Observation]) -> list[Decision]:
        return [Decision(()) for _ in observations]


def test_own_agents_are_compared_with_all_others_and_named_in_full(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"agents_of_a_user_with_long_names:{name}" for name in ("LeaveAlone", "LeaveAloneAgain")]
    module = ModuleType("agents_of_a_user_with_long_names")
    module.__dict__.update(LeaveAlone=LeaveAlone, LeaveAloneAgain=LeaveAlone)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setenv("COLUMNS", "80")
    args = small_comparison(photos, "--no-sheet", "--agents", f"{names[0]},untouched,random,{names[1]}")
    assert main(args) == 0
    printed = capsys.readouterr().out
    assert f"{names[0]} - untouched: +0.00 [0.00, 0.00], paired" in printed
    assert f"{names[0]} - random: " in printed
    assert f"{names[1]} - untouched: +0.00 [0.00, 0.00], paired" in printed
    assert f"{names[1]} - {names[0]}: +0.00 [0.00, 0.00], paired" in printed
    table = printed.split("psnr_y")[0]
    cells = "".join(line.split("  ")[0].strip() for line in table.splitlines())
    assert all(name in cells for name in names), "a long name is continued on the next line"
    assert "…" not in printed


def test_an_own_source_determines_recipes_and_degradations(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("my_source")
    recipes = [("vignette",), ("vignette", "noise")]
    module.__dict__["make"] = lambda: clean_folder(
        photos, 64, recipes=recipes, degradations=[Vignette(0.7)]
    )
    monkeypatch.setitem(sys.modules, "my_source", module)
    args = "compare --images my_source:make --n 4 --reward classic --agents untouched,matched --no-sheet"
    assert main([*args.split(), "--json", str(tmp_path / "out.json")]) == 0
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert {tuple(row["spec"]["recipe"]) for row in rows} == set(recipes)
    assert json.loads((tmp_path / "out.json").read_text())["config"]["images"] == ["my_source:make"]


def test_results_are_written_although_standard_output_is_closed(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(*args: object, **options: object) -> None:
        raise BrokenPipeError

    target = tmp_path / "out.json"
    monkeypatch.setattr("opera_env.cli.compare.comparison_tables", closed)
    assert main(small_comparison(photos, "--no-sheet", "--json", str(target))) == 1
    assert json.loads(target.read_text())["config"]["num_samples"] == 2


def test_default_agents_exist_and_all_of_them_are_known() -> None:
    assert {*DEFAULT_AGENTS, *SLOW_AGENTS} <= {
        name + suffix for name in agent_names() for suffix in ("", "-blind")
    }
    assert {name.removesuffix("-blind") for name in (*DEFAULT_AGENTS, *SLOW_AGENTS)} <= {*SHIPPED_AGENTS}
    assert set(SHIPPED_AGENTS) == set(agent_names())


@pytest.mark.parametrize("command", [[], ["compare"], ["weights"]])
def test_help(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*command, "--help"])
    assert stop.value.code == 0
    assert "opera-env" in capsys.readouterr().out
