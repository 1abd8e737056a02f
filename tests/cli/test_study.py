"""``opera-env study``: its tables, its file, and its errors."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from opera_env.cli import main
from opera_env.cli.options.study import StudyCommand
from opera_env.cli.study import choose_tools
from opera_env.degradations import DEGRADATIONS, STUDY_RECIPES
from opera_env.errors import UnknownToolError
from opera_env.evaluation.planning_factors import CONSTANT_PLAN, PLANNING_FACTORS
from opera_env.evaluation.stats import ConfidenceInterval, format_interval
from opera_env.scoring import PlanScorer
from opera_env.tool_training.lite_tools import STUDY_TOOLS
from opera_env.tools import Tool, Toolbox
from opera_env.tools.nets import build_net

Draw = Callable[[int, int, int], Image.Image]

LEVELS = {"rain": -10.0, "haze": -25.0, "defocus_blur": 5.0, "noise": 8.0}

needs_lpips = pytest.mark.needs_weights("lpips")


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toolbox folder with a tool in microseconds for each degradation of the study."""
    folder = tmp_path_factory.mktemp("box")
    tools = [
        Tool(
            f"tiny.{kind}",
            build_net("shift", {"levels": levels}),
            degradations=frozenset({kind}),
            net=("shift", {"levels": levels}),
        )
        for kind, levels in LEVELS.items()
    ]
    Toolbox(tools).save(folder)
    return folder


def args(box: Path, photos: Path, *more: str) -> list[str]:
    return ["study", "--toolbox", str(box), "--images", str(photos), "--canvas", "64", *more]


def failure(printed: pytest.CaptureFixture[str]) -> str:
    """The one line that says what went wrong; a progress bar may stand before it."""
    out, err = printed.readouterr()
    assert out == ""
    assert "Traceback" not in err
    lines = [line for line in err.splitlines() if "error:" in line]
    assert len(lines) == 1
    assert err.endswith(f"{lines[0]}\n")
    return lines[0]


@needs_lpips
def test_tables_and_a_file(
    box: Path,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("opera_env.cli.study.STUDY_RECIPES", STUDY_RECIPES[:6])  # those of two degradations
    target = tmp_path / "deep" / "study.json"
    assert main(args(box, photos, "--max-length", "2", "--json", str(target))) == 0
    printed = capsys.readouterr().out
    assert "…" not in printed
    assert max(len(line) for line in printed.splitlines() if str(tmp_path) not in line) <= 80

    summary = json.loads(target.read_text())
    assert [path.name for path in target.parent.iterdir()] == ["study.json"]
    assert summary["tools"] == [f"tiny.{kind}" for kind in LEVELS]
    assert (summary["max_length"], summary["samples"]) == (2, 16)
    assert summary["plans"] == 1 + 4 + 4**2
    assert len(summary["effects"]) == 6 * (len(PLANNING_FACTORS) + 1)

    text = " ".join(printed.split())
    assert "21 plans of tiny.rain, tiny.haze, tiny.defocus_blur, tiny.noise on 16 samples" in text
    assert text.count("21 plans") == 1, "the tables share a heading"
    assert all(
        f"effect in {metric}" in printed
        for metric in ("R_q", "PSNR-Y, dB", "SSIM-Y", "LPIPS", "NIQE", "PIQE")
    )
    for row in summary["effects"]:
        digits = 3 if row["metric"] in ("ssim_y", "lpips") else 2
        interval = format_interval(ConfidenceInterval(**row["mean"]), digits)
        assert f"{interval} {row['median']:.{digits}f} {row['fraction']:.0%}" in text
    names = " ".join(re.sub(r" -?\d+\.\d+ \[.*", "", printed).split())  # a name may take two lines
    assert all(names.count(name) == 6 for name in (*PLANNING_FACTORS, CONSTANT_PLAN))
    assert f"{100 * summary['consensus']['baseline_repeats']:.1f} %" in text


def test_the_papers_tools_take_part_unless_others_are_named() -> None:
    toolbox = Toolbox.load("lite")
    assert choose_tools(toolbox, StudyCommand()).names == STUDY_TOOLS
    assert choose_tools(toolbox, StudyCommand(recipes="benchmark")).names == toolbox.names
    own = toolbox.subset(["unet.denoise", "unet.dejpeg"])
    assert choose_tools(own, StudyCommand()).names == own.names
    assert choose_tools(toolbox, StudyCommand(tools=("unet.denoise",))).names == ("unet.denoise",)
    with pytest.raises(UnknownToolError, match=r"mine\.own"):
        choose_tools(toolbox, StudyCommand(tools=("mine.own",)))


@needs_lpips
def test_the_same_seed_gives_the_same_results(
    box: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("opera_env.cli.study.STUDY_RECIPES", (("noise",), ("haze",)))
    actual: list[list[float]] = []
    for name, seed in (("a", "5"), ("b", "5"), ("c", "6")):
        file = tmp_path / name
        options = ("--max-length", "1", "--n", "6", "--seed", seed, "--json", str(file))
        assert main(args(box, photos, *options)) == 0
        actual.append(
            [row["mean"][key] for row in json.loads(file.read_text())["effects"] for key in row["mean"]]
        )
    assert actual[0] == pytest.approx(actual[1], abs=1e-5)
    assert actual[0] != pytest.approx(actual[2], abs=1e-2)


@needs_lpips
def test_a_file_whose_name_looks_like_markup(
    box: Path,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("opera_env.cli.study.STUDY_RECIPES", (("noise",), ("haze",)))
    monkeypatch.chdir(tmp_path)
    assert main(args(box, photos, "--max-length", "1", "--n", "6", "--json", "[bold]/a.json")) == 0
    assert Path("[bold]/a.json").is_file()
    assert "results: [bold]/a.json" in capsys.readouterr().out


@needs_lpips
def test_recipes_of_the_benchmark(tmp_path: Path) -> None:
    """As in the help's example: 32 samples, two of each recipe; one tool is for all degradations."""
    net = ("shift", {"levels": 5.0})
    Toolbox([Tool("tiny.all", build_net(*net), degradations=frozenset(DEGRADATIONS), net=net)]).save(
        tmp_path / "box"
    )
    target = tmp_path / "study.json"
    options = ("--recipes", "benchmark", "--max-length", "3", "--n", "32", "--json", str(target))
    assert main(["study", "--toolbox", str(tmp_path / "box"), "--canvas", "64", *options]) == 0
    assert json.loads(target.read_text())["samples"] == 32


@pytest.mark.parametrize(
    ("more", "says", "code"),
    [
        (("--max-length", "2"), "3 degradations", 1),
        (("--max-length", "0"), "--max-length 0: expected a number of at least 1", 2),
        pytest.param(("--max-length", "40"), "--max-length 40: expected at most 8", 2, marks=needs_lpips),
        (("--toolbox", "nothing"), "no toolbox 'nothing'", 1),
        (("--images", "nowhere"), "nowhere", 1),
        (("--canvas", "30"), "multiple of 4", 1),
        (("--n", "0"), "--n 0: expected a number of at least 1", 2),
        (("--n", "100000000"), "GB of free memory", 2),
        (("--seed", "-1"), "--seed -1", 2),
        (("--json", "pyproject.toml"), "--json pyproject.toml exists", 1),
        (("--json", "tests"), "--json tests is a folder", 1),
        (("--resume",), "--resume: expected --json", 2),
        (("--recipes", "benchmark", "--n", "64", "--max-length", "3"), "a tool for", 1),
        pytest.param(("--n", "8", "--max-length", "3"), "two photographs", 1, marks=needs_lpips),
        pytest.param(("--canvas", "32", "--max-length", "3"), "64", 1, marks=needs_lpips),
    ],
)
def test_errors_are_one_line(
    more: tuple[str, ...],
    says: str,
    code: int,
    box: Path,
    photos: Path,
    repository: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(repository)
    assert main(args(box, photos, *more)) == code
    line = failure(capsys)
    assert says in line
    assert "--debug" not in line, "a complete message has no hint at --debug"


@pytest.mark.slow
@needs_lpips
def test_an_interrupted_study_resumes(
    box: Path,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The result is that of a study which was not interrupted; finished samples are not run again."""
    whole, target = tmp_path / "whole.json", tmp_path / "study.json"
    options = ("--n", "16", "--max-length", "3")
    assert main(args(box, photos, *options, "--json", str(whole))) == 0
    score, calls = PlanScorer.score, []

    def interrupt(scorer: PlanScorer, *more: Any, **others: Any) -> Any:
        calls.append(scorer)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return score(scorer, *more, **others)

    monkeypatch.setattr(PlanScorer, "score", interrupt)
    assert main(args(box, photos, *options, "--json", str(target))) == 130
    assert not target.exists()
    assert "--resume continues" in capsys.readouterr().err
    assert main(args(box, photos, *options, "--json", str(target))) == 1
    assert main(args(box, photos, *options, "--json", str(target), "--resume")) == 0
    assert len(calls) == 16 + 1, "the interrupted sample is scored twice"
    assert target.read_bytes() == whole.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["study.json", "whole.json"]


@needs_lpips
def test_one_photograph_is_not_enough(
    box: Path,
    tmp_path: Path,
    make_photograph: Draw,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("opera_env.cli.study.STUDY_RECIPES", (("noise", "haze"),))
    make_photograph(64, 64, 0).save(tmp_path / "0.png")
    assert main(args(box, tmp_path, "--max-length", "2", "--n", "3")) == 1
    assert "two photographs; noise + haze is on one" in failure(capsys)


@pytest.mark.parametrize("more", [("--recipes", "nonsense"), ("--max-length", "many"), ("nonsense",)])
def test_invalid_arguments_exit_with_code_2(more: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["study", *more])
    assert stop.value.code == 2


def test_help_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["study", "--help"])
    assert stop.value.code == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert "opera-env study" in lines
    assert any(line.startswith("opera-env study --") for line in lines)
