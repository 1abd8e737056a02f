"""``opera-env compare``: tables, files, picture sheet, and the choice of agents."""

import json
import shutil
import sys
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from opera_agents.planner.saved import SHIPPED as SHIPPED_PLANNER
from opera_baselines.greedy import Greedy
from opera_env.agents import agent_names
from opera_env.cli import main
from opera_env.cli.compare_names import DEFAULT_AGENTS, SLOW_AGENTS, choose_agents
from opera_env.cli.compare_report import SHIPPED_AGENTS, print_tables
from opera_env.console import Console
from opera_env.data import clean_folder
from opera_env.tools import Toolbox
from opera_env.types import Decision, Observation
from tests.degradations.own import Vignette
from tests.faults.processes import contents


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


def test_a_budget_limits_the_tools_that_run_and_is_printed(
    photos: Path, tmp_path: Path, small_toolbox: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = f"compare --images {photos} --canvas 64 --n 2 --reward classic --no-sheet --budget 2"
    names = ["--agents", "untouched,greedy,mair-blind", "--toolbox", str(small_toolbox)]
    assert main([*args.split(), *names, "--json", str(tmp_path / "out.json")]) == 0
    printed = capsys.readouterr().out
    assert " run " in printed and "at most 2 for an image" in printed
    summary = json.loads((tmp_path / "out.json").read_text())
    assert summary["config"]["budget"] == 2
    assert summary["agents"]["greedy"]["tools_run"] == 4
    assert summary["agents"]["mair-blind"]["tools_run"] <= 4


@pytest.mark.parametrize(
    ("args", "says", "code"),
    [
        ("--images nowhere", "nowhere", 1),
        ("--agents unknown_agent", "unknown_agent", 1),
        ("--agents ,", "--agents ',': expected at least one name", 2),
        ("--toolbox nothing", "nothing", 1),
        ("--n 0", "--n 0: expected a number of at least 1", 2),
        ("--n -3", "--n -3", 2),
        ("--n 1000000000", "GB of free memory", 2),
        ("--num-plans 0", "--num-plans", 2),
        ("--num-plans 1000000", "--num-plans 1000000: expected a number from 1 to 10000", 2),
        ("--max-tools 0", "--max-tools", 2),
        ("--max-tools 1000", "--max-tools", 2),
        ("--tool-cost nan", "--tool-cost nan: expected a number of at least 0", 2),
        ("--tool-cost inf", "--tool-cost inf", 2),
        ("--tool-cost -1", "--tool-cost -1", 2),
        ("--seed -1", "--seed -1", 2),
        ("--seed 99999999999999999999", "--seed 99999999999999999999", 2),
        ("--canvas 0", "--canvas 0", 2),
        ("--canvas 30", "multiple of 4", 1),
        ("--reward nonsense", "nonsense", 1),
        ("--device tpu", "tpu", 1),
        ("--images a --benchmark b", "not several", 1),
        ("--json out.jsonl", "--json out.jsonl: expected another name", 2),
        ("--json . ", "is a folder", 1),
        ("--json pyproject.toml", "--json pyproject.toml exists: choose another name, or replace it", 1),
        ("--sheet pyproject.toml/a.png", "pyproject.toml is not a folder", 1),
        ("--sheet out.gif", "expected a name that ends in .jpg", 2),
        ("--resume", "--resume: expected --json", 2),
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
    options = [] if "--n " in args else ["--n", "1"]
    assert main(["compare", *options, *args.split()]) == code
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


def test_a_tool_that_is_always_planned_is_compared_with_all_others(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["--no-sheet", "--agents", "single:unet.dejpeg,untouched", "--json", str(tmp_path / "out.json")]
    assert main(small_comparison(photos, *args)) == 0
    assert "single:unet.dejpeg - untouched: " in capsys.readouterr().out
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    plans = [row["plan"] for row in rows if row["agent"] == "single:unet.dejpeg"]
    assert plans == [["unet.dejpeg"]] * 2


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
    monkeypatch.setattr("opera_env.cli.compare.print_tables", closed)
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


def test_existing_results_are_replaced_with_force_only(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "out.json"
    args = small_comparison(photos, "--no-sheet", "--json", str(target))
    assert main(args) == 0
    first = contents(tmp_path)
    assert main(args) == 1
    assert f"{target} exists: choose another name, or replace it with --force" in capsys.readouterr().err
    assert contents(tmp_path) == first
    assert main([*args, "--resume"]) == 1, "the run is complete"
    target.unlink()
    assert main(args) == 1
    assert "the records of --json" in capsys.readouterr().err
    assert main([*args, "--force"]) == 0
    assert set(contents(tmp_path)) == {"out.json", "out.jsonl"}
    assert main(small_comparison(photos, "--sheet", str(tmp_path / "out.png"))) == 0
    assert main(small_comparison(photos, "--sheet", str(tmp_path / "out.png"))) == 1


class Interrupts:
    """An agent that is interrupted, unless it is told to run."""

    closed_loop = False
    may_run = False

    def act(self, observations: Sequence[Observation]) -> list[Decision]:
        if not Interrupts.may_run:
            raise KeyboardInterrupt
        return [Decision(()) for _ in observations]


def test_an_interrupted_comparison_keeps_what_is_finished_and_resumes(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The result is that of a run which was not interrupted; results from before stay until then."""
    whole, target = tmp_path / "whole.json", tmp_path / "out.json"
    args = f"compare --images {photos} --canvas 64 --n 2 --reward classic --max-tools 1 --regret --no-sheet"
    args = [*args.split(), "--agents", "random,greedy,tests.cli.test_compare:Interrupts"]
    monkeypatch.setattr(Interrupts, "may_run", True)
    assert main([*args, "--json", str(whole)]) == 0
    target.write_text("earlier")
    monkeypatch.setattr(Interrupts, "may_run", False)
    capsys.readouterr()
    assert main([*args, "--json", str(target), "--force"]) == 130
    partial = tmp_path / "out.json.partial"
    line = f"interrupted; {partial} keeps what is finished, --resume continues"
    assert capsys.readouterr().err.splitlines()[-1] == line
    assert target.read_text() == "earlier"
    assert len(partial.read_text().splitlines()) == 3, "the settings and two agents"

    assert main([*args, "--json", str(target)]) == 1
    target.unlink()
    assert main([*args, "--json", str(target)]) == 1
    assert "--resume continues it, --force starts again" in capsys.readouterr().err
    assert main([*args, "--json", str(target), "--resume", "--seed", "1"]) == 1
    assert "other settings (samples, seed)" in capsys.readouterr().err
    monkeypatch.setattr(Interrupts, "may_run", True)
    monkeypatch.setattr(Greedy, "search", None)  # it is not run again
    assert main([*args, "--json", str(target), "--resume"]) == 0
    names = {"out.json", "out.jsonl", "whole.json", "whole.jsonl"}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert target.with_suffix(".jsonl").read_bytes() == whole.with_suffix(".jsonl").read_bytes()


def test_an_interruption_before_the_first_agent_leaves_nothing(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = small_comparison(photos, "--no-sheet", "--agents", "tests.cli.test_compare:Interrupts")
    assert main([*args, "--json", str(tmp_path / "out.json")]) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "interrupted"
    assert list(tmp_path.iterdir()) == []


def test_all_agents_are_made_before_the_first_one_runs(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = small_comparison(photos, "--no-sheet", "--agents", "tests.cli.test_compare:Interrupts,mispelt")
    assert main(args) == 1
    assert "unknown agent 'mispelt'" in capsys.readouterr().err


def test_fewer_images_than_samples_are_said(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whole images repeat, crops of them do not."""
    args = f"compare --pairs {photos} {photos} --n 9 --reward classic --agents untouched --no-sheet"
    assert main([*args.split(), "--json", str(tmp_path / "whole.json")]) == 0
    assert "3 samples, as there are 3 images; --canvas takes crops" in capsys.readouterr().out
    config = json.loads((tmp_path / "whole.json").read_text())["config"]
    assert (config["n"], config["num_samples"], config["canvas"]) == (9, 3, None)
    assert config["images"] == [str(photos), str(photos)]
    assert main([*args.split(), "--canvas", "32", "--json", str(tmp_path / "crops.json")]) == 0
    config = json.loads((tmp_path / "crops.json").read_text())["config"]
    assert (config["num_samples"], config["canvas"]) == (9, 32)


def test_all_may_stand_beside_other_agents() -> None:
    toolbox = Toolbox.load("lite")
    names = choose_agents("mine:Agent, all,random", "lite", True, toolbox, Console())
    assert names == ["mine:Agent", *DEFAULT_AGENTS, *SLOW_AGENTS]


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_name_and_no_number_is_cut(width: int) -> None:
    """In a narrow terminal names continue on the next line; in a file every row is one line."""
    names = [f"a_module_with_a_rather_long_name:AgentNumber{number}" for number in range(12)]
    interval = {"mean": -1234.5, "low": -2345.25, "high": 1234.125}
    row = {"reward": interval, "psnr_y": 23.456, "tools": 1.5, "images_scored": 123456, "seconds": 98765.0}
    row |= {"regret": 0.25, "errors": 0, "tools_run": 4, "a_metric_of_a_user": 1e6}
    summary = {
        "agents": dict.fromkeys(names, row),
        "groups": {name: {"A": 1.5, "B": 2.5, "C": 3.25} for name in names},
        "config": {"num_samples": 3, "source": "here", "reward": "lite"},
    }
    for is_terminal in (True, False):
        file = StringIO()
        print_tables(
            Console(file=file, width=width, force_terminal=is_terminal, color_system=None), summary
        )
        lines = file.getvalue().splitlines()
        assert "…" not in file.getvalue()
        for number in ("-1234.50 [-2345.25, 1234.12]", "123456", "98765", "1000000.00", "23.46"):
            assert sum(number in line for line in lines) == len(names)
        for name in names:
            assert any(f" {name} " in line for line in lines) or is_terminal
        if is_terminal:
            cells = "".join(line.split("  ")[0].strip() for line in lines)
            assert all(name in cells for name in names)


def test_an_agent_that_was_trained_further_is_run_again(photos: Path, tmp_path: Path) -> None:
    folder, target = tmp_path / "planner", tmp_path / "out.json"
    shutil.copytree(SHIPPED_PLANNER, folder, ignore=shutil.ignore_patterns("lite-cotrained"))
    args = f"compare --images {photos} --canvas 64 --n 2 --reward classic --no-sheet --json {target}"
    args = [*args.split(), "--agents", f"planner:{folder},tests.cli.test_compare:Interrupts"]
    assert not Interrupts.may_run
    assert main(args) == 130
    kept = (tmp_path / "out.json.partial").read_text().splitlines()[1]
    weights = load_file(folder / "planner.safetensors")
    save_file({key: -value for key, value in weights.items()}, folder / "planner.safetensors")
    assert main([*args, "--resume"]) == 130
    lines = (tmp_path / "out.json.partial").read_text().splitlines()
    assert len(lines) == 3 and lines[1] == kept, "the plans of the other weights are kept beside"
    keys = [json.loads(line.split(" ", 1)[1])[0] for line in lines[1:]]
    assert keys[0] != keys[1]
