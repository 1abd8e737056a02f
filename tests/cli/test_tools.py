"""``opera-env tools list``, ``card`` and ``measure``: what a toolbox holds and how good it is."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from opera_env.cli import main
from opera_env.degradations import DEGRADATIONS
from opera_env.restoration.config import DEFAULT_TOOLBOX
from opera_env.tool_training.model_card import Gain, ToolCard, read_card
from opera_env.tools import Tool, Toolbox
from opera_env.tools.nets import build_net
from opera_env.tools.toolbox import shipped_toolboxes
from tests.cli.conftest import one_error

Draw = Callable[[int, int, int], Image.Image]
Printed = pytest.CaptureFixture[str]

BRIGHTENERS = ["brighten.constant_shift", "brighten.gamma_correction"]


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")


def fits(printed: str) -> bool:
    """Whether tables and text keep to 80 columns and nothing is cut; commands may be longer."""
    lines = [line for line in printed.splitlines() if "opera-env tools train" not in line]
    return "…" not in printed and max(map(len, lines)) <= 80


# ---- list --------------------------------------------------------------------------------------


@pytest.mark.parametrize("args", [[], ["list"], ["list", "--toolbox", "lite"]])
def test_the_table_names_every_tool_in_order(args: list[str], narrow: None, capsys: Printed) -> None:
    assert main(["tools", *args]) == 0
    printed = capsys.readouterr().out
    box = Toolbox.load("lite")
    rows = [line.split() for line in printed.splitlines() if line.strip()]
    assert [row[0] for row in rows if row[0] in box.names] == list(box.names)
    assert box.fingerprint in printed
    for tool in box:
        row = next(row for row in rows if row[0] == tool.name)
        assert all(degradation in row for degradation in tool.degradations)
        assert str(tool.multiple) in row
        assert ("all" in row) == tool.uses_global_context
    assert fits(printed)


def test_json_has_the_same_content(capsys: Printed) -> None:
    assert main(["tools", "list", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    box = Toolbox.load("lite")
    assert summary["toolbox"] == "lite"
    assert (summary["signature"], summary["fingerprint"]) == (box.signature, box.fingerprint)
    assert [tool["name"] for tool in summary["tools"]] == list(box.names)
    assert len(summary["tools"]) == 18
    enlarging = {tool["name"]: tool["scale"] for tool in summary["tools"] if tool["scale"] > 1}
    assert len(enlarging) == 2
    assert set(enlarging.values()) == {4}
    assert enlarging.keys() == {tool.name for tool in box if "low_resolution" in tool.degradations}
    denoise = summary["tools"][0]
    module = box["unet.denoise"].module
    assert module is not None
    assert denoise["parameters"] == sum(parameter.numel() for parameter in module.parameters())
    assert denoise["degradations"] == ["noise"]
    known = {kind for tool in summary["tools"] for kind in tool["degradations"]}
    assert known == set(DEGRADATIONS), "the pool has a tool for everything"


def test_a_toolbox_from_a_folder(tmp_path: Path, capsys: Printed) -> None:
    folder = tmp_path / "box [mine]"
    Toolbox.load("lite").subset(["brighten.constant_shift", "unet.dehaze"]).save(folder)
    assert main(["tools", "list", "--toolbox", str(folder), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert [tool["name"] for tool in summary["tools"]] == ["brighten.constant_shift", "unet.dehaze"]
    assert [tool["uses_global_context"] for tool in summary["tools"]] == [False, True]
    assert main(["tools", "list", "--toolbox", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert "+ all" in printed
    assert printed.startswith(f"{folder}, fingerprint ")


def test_the_list_says_which_toolbox_each_command_uses(capsys: Printed) -> None:
    assert main(["tools", "list"]) == 0
    printed = capsys.readouterr().out
    assert "  lite, default of compare, study, bench\n" in printed
    assert f"  {DEFAULT_TOOLBOX}, default of restore\n" in printed
    assert main(["tools", "list", "--json"]) == 0
    shipped = json.loads(capsys.readouterr().out)["shipped"]
    assert shipped.keys() == set(shipped_toolboxes())
    assert shipped[DEFAULT_TOOLBOX] == ["restore"]


@pytest.mark.parametrize("command", ["list", "card"])
def test_no_such_toolbox(command: str, capsys: Printed) -> None:
    assert main(["tools", command, "--toolbox", "nothing"]) == 1
    assert one_error(capsys).startswith("error: no toolbox 'nothing'")


@pytest.mark.parametrize(
    ("args", "says", "code"),
    [
        ("measure box --images . --side 0", "--side 0: expected a number from 32 to 4096", 2),
        ("measure box --images . --side 100", "--side 100: expected a multiple of 8", 2),
        ("card --figure gains.xyz", "--figure gains.xyz: expected a name that ends in .png", 2),
        ("card --figure pyproject.toml/a.png", "pyproject.toml is not a folder", 1),
        (
            "train unet.denoise --images . --val . --val-side 33",
            "--val-side 33: expected a multiple of 8",
            2,
        ),
        ("train unet.denoise --images . --val . --lr nan", "--lr nan", 2),
        ("train unet.denoise --images . --val . --steps 0", "--steps 0", 2),
    ],
)
def test_values_that_cannot_be_used_are_named_at_once(
    args: str, says: str, code: int, repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    monkeypatch.chdir(repository)
    assert main(["tools", *args.split()]) == code
    assert says in one_error(capsys)


# ---- card --------------------------------------------------------------------------------------


def made_up(number: int) -> ToolCard:
    """Returns a card whose numbers all differ and are as wide as possible."""
    gains = {
        kind: Gain(-(10 + number + place / 10), -3.0, -0.25, 0.125, 3)
        for place, kind in enumerate(DEGRADATIONS)
    }
    own_gain = Gain(10.25 + number, 9.0, 0.31, -0.42, number)
    return ToolCard(12.3 + number, own_gain, gains, 61.4 + number, 7, "photographs/held-out")


@pytest.fixture
def box(tmp_path: Path) -> Path:
    """A folder of two tools without weights, the longer name as long as any of lite's."""
    names = ("a.brighten", max(Toolbox.load("lite").names, key=len))
    tools = [
        Tool(
            name,
            build_net("shift", {"levels": 10.0 + number}),
            degradations=frozenset({"low_light"}),
            net=("shift", {"levels": 10.0 + number}),
            training={"command": f"opera-env tools train {name} --images DIR"} if number else {},
            measured={"file": None, **made_up(number).to_json()},
        )
        for number, name in enumerate(names)
    ]
    Toolbox(tools).save(tmp_path / "box")
    return tmp_path / "box"


def rows_of(printed: str, name: str) -> list[list[str]]:
    """The cells of each table row that begins with a tool's name."""
    rows = [line.replace("|", " ").split() for line in printed.splitlines()]
    return [row for row in rows if row and row[0] == name]


@pytest.mark.parametrize("markdown", [False, True])
def test_the_card_has_every_tool_in_both_tables(
    box: Path, markdown: bool, narrow: None, capsys: Printed
) -> None:
    assert main(["tools", "card", "--toolbox", str(box), *(["--markdown"] if markdown else [])]) == 0
    printed = capsys.readouterr().out
    assert markdown or fits(printed)
    for number, name in enumerate(Toolbox.load(box).names):
        cost, gains = rows_of(printed, name)
        figures = (f"{12.3 + number:.1f}", f"+{10.25 + number:.2f}", "+0.31", "-0.42", str(number))
        assert cost == [name, "0", *figures, f"{61.4 + number:.1f}"]
        assert gains == [name, *(f"-{10 + number + place / 10:.1f}" for place in range(8))]
    assert "7 images of photographs/held-out" in printed
    commands = [line for line in printed.splitlines() if "opera-env tools train" in line]
    assert len(commands) == 1, "of the tool that was trained"
    assert commands[0].endswith("--images DIR")


def test_the_card_of_lite_fits(narrow: None, capsys: Printed) -> None:
    assert main(["tools", "card"]) == 0
    printed = capsys.readouterr().out
    assert fits(printed)
    for name in Toolbox.load("lite").names:
        cost, gains = rows_of(printed, name)
        assert len(cost) == 8
        assert len(gains) == 1 + len(DEGRADATIONS)


def test_the_markdown_is_tables(narrow: None, capsys: Printed) -> None:
    assert main(["tools", "card", "--markdown"]) == 0
    tables: list[list[list[str]]] = [[]]
    for line in map(str.strip, capsys.readouterr().out.splitlines()):
        if line.startswith("|"):
            assert line.endswith("|")
            tables[-1].append([cell.strip() for cell in line[1:-1].split("|")])
        elif tables[-1]:
            tables.append([])
    costs, gains = (table for table in tables if table)
    names = list(Toolbox.load("lite").names)
    for table, cells in ((costs, 8), (gains, 9)):
        assert {len(row) for row in table} == {cells}
        assert all(table[0]), "every column has a heading"
        assert all(re.fullmatch(r":?-{3,}:?", cell) for cell in table[1])
        assert [row[0] for row in table[2:]] == names
        assert all(all(row) for row in table[2:])
    assert gains[0][1:] == list(DEGRADATIONS), "Markdown has room for whole names"


def test_the_card_as_json(capsys: Printed) -> None:
    assert main(["tools", "card", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    box = Toolbox.load("lite")
    assert summary["fingerprint"] == box.fingerprint
    assert [tool["name"] for tool in summary["tools"]] == list(box.names)
    for row in summary["tools"]:
        card = ToolCard.from_json(row["card"])
        assert card == read_card(box[row["name"]])
        assert set(card.gains) == set(DEGRADATIONS)
        assert card.ms > 0


@pytest.mark.parametrize("args", [[], ["--json"]])
def test_the_figure_is_a_picture(box: Path, args: list[str], tmp_path: Path, capsys: Printed) -> None:
    file = tmp_path / "deep" / "gains.png"
    assert main(["tools", "card", "--toolbox", str(box), "--figure", str(file), *args]) == 0
    with Image.open(file) as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 200
        assert len(np.unique(np.asarray(picture.convert("L")))) > 10, "and not an empty one"
    assert [path.name for path in file.parent.iterdir()] == ["gains.png"]
    if args:
        json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("args", [[], ["--json"], ["--markdown"], ["--figure", "gains.png"]])
def test_unmeasured_tools_have_no_card(
    args: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    monkeypatch.chdir(tmp_path)
    net = ("gamma", {"gamma": 1.2})
    Toolbox([Tool("tiny.gamma", build_net(*net), net=net)]).save(tmp_path / "box")
    assert main(["tools", "card", "--toolbox", "box", *args]) == 1
    line = one_error(capsys)
    assert "opera-env tools measure" in line
    assert "tiny.gamma" in line
    assert [path.name for path in tmp_path.iterdir()] == ["box"]


def test_weights_that_changed_have_no_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    toolbox = Toolbox.load("lite").subset(["unet.denoise"])
    module = toolbox["unet.denoise"].module
    assert module is not None
    with torch.no_grad():
        next(iter(module.parameters())).mul_(0.5)
    toolbox.save(tmp_path / "box", dtype=torch.float16)
    assert main(["tools", "card", "--toolbox", str(tmp_path / "box")]) == 1
    assert "has not been measured with its present weights" in one_error(capsys)


# ---- measure -----------------------------------------------------------------------------------


@pytest.mark.needs_weights("lpips")
def test_measured_tools_have_a_card(
    photographs: Path, tmp_path: Path, narrow: None, capsys: Printed
) -> None:
    folder = tmp_path / "box"
    nets = [("shift", {"levels": levels}) for levels in (0.0, 40.0)]
    degradations = [frozenset({"noise"}), frozenset({"low_light"})]
    names = ["tiny.keep", "tiny.brighten"]
    Toolbox(
        Tool(name, build_net(*net), degradations=of, net=net)
        for name, net, of in zip(names, nets, degradations, strict=True)
    ).save(folder)
    before, files = Toolbox.load(folder), sorted(path.name for path in folder.iterdir())

    assert main(["tools", "measure", str(folder), "--images", str(photographs)]) == 0
    capsys.readouterr()
    after = Toolbox.load(folder)
    assert after.fingerprint == before.fingerprint
    assert after.names == before.names
    assert sorted(path.name for path in folder.iterdir()) == files

    assert main(["tools", "card", "--toolbox", str(folder), "--json"]) == 0
    cards = [ToolCard.from_json(row["card"]) for row in json.loads(capsys.readouterr().out)["tools"]]
    keep, brighten = cards
    assert {(card.images, card.data) for card in cards} == {(2, "data/val")}
    nothing = Gain(0, 0, 0, 0, 0)
    for gain in (keep.own, *keep.gains.values()):
        assert asdict(gain) == pytest.approx(asdict(nothing), abs=1e-6)
    assert keep.clean == pytest.approx(80, abs=1e-3)
    # Forty levels more on all but the brightest pixels: at least 10 log10(255^2 / 40^2) dB.
    assert 16.09 <= brighten.clean < 18
    assert brighten.own == brighten.gains["low_light"]
    assert brighten.own.psnr > 0
    assert brighten.gains["noise"].psnr < 0
    assert brighten.gains["noise"].worse == 2

    assert main(["tools", "card", "--toolbox", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert fits(printed)
    assert [len(rows_of(printed, name)) for name in names] == [2, 2]


@pytest.mark.needs_weights("lpips")
def test_measuring_does_not_change_weights(photographs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "box"
    net = ("unet", {"widths": (4, 8), "unshuffle": 2})
    Toolbox(
        [Tool("tiny.unet", build_net(*net), multiple=4, degradations=frozenset({"rain"}), net=net)]
    ).save(folder, dtype=torch.float16)
    before = {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}
    args = ["tools", "measure", str(folder), "--images", str(photographs), "--side", "64"]
    assert main(args) == 0
    assert {path.name: path.read_bytes() for path in folder.glob("*.safetensors")} == before
    assert len(before) == 1
    assert read_card(Toolbox.load(folder)["tiny.unet"]).own.psnr == pytest.approx(0, abs=1e-3), (
        "not trained"
    )


@pytest.mark.parametrize(
    ("folder", "images", "says"),
    [("nowhere", "val", "nowhere"), ("box", "nowhere", "nowhere"), ("box", "small", "128")],
)
def test_invalid_measurements_are_refused(
    folder: str,
    images: str,
    says: str,
    tmp_path: Path,
    photographs: Path,
    make_photograph: Draw,
    capsys: Printed,
) -> None:
    Toolbox.load("lite").subset(BRIGHTENERS).save(tmp_path / "box")
    manifest = (tmp_path / "box" / "toolbox.json").read_bytes()
    (photographs.parent / "small").mkdir()
    make_photograph(100, 200, 0).save(photographs.parent / "small" / "0.png")
    args = ["tools", "measure", str(tmp_path / folder), "--images", str(photographs.parent / images)]
    assert main(args) == 1
    out, err = capsys.readouterr()
    errors = [line for line in err.splitlines() if "error:" in line]
    assert len(errors) == 1
    assert "Traceback" not in out + err
    assert says in errors[0]
    assert "--debug" not in errors[0]
    assert (tmp_path / "box" / "toolbox.json").read_bytes() == manifest


@pytest.mark.needs_weights("lpips")
def test_a_folder_that_is_called_like_a_shipped_toolbox(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder's tools are measured, not those that come with opera-env."""
    monkeypatch.chdir(tmp_path)
    net = ("shift", {"levels": 0.0})
    kinds = frozenset({"low_light"})
    Toolbox([Tool(BRIGHTENERS[0], build_net(*net), degradations=kinds, net=net)]).save("lite")
    seen: list[Toolbox] = []

    def fake(toolbox: Toolbox, *args: object, **options: object) -> dict[str, ToolCard]:
        seen.append(toolbox)
        return {name: made_up(0) for name in toolbox.names}

    monkeypatch.setattr("opera_env.cli.tools.measure_tools", fake)
    assert main(["tools", "measure", "lite", "--images", str(photographs)]) == 0
    assert [toolbox.names for toolbox in seen] == [(BRIGHTENERS[0],)]


# ---- arguments and help ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "args", [["nonsense"], ["measure"], ["train"], ["measure", "box"], ["card", "--nonsense"]]
)
def test_invalid_arguments_exit_with_code_2(args: list[str], capsys: Printed) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["tools", *args])
    assert stop.value.code == 2
    assert "--help" in capsys.readouterr().err


@pytest.mark.parametrize("command", [[], ["list"], ["card"], ["train"], ["pack"], ["measure"]])
def test_help_shows_examples(command: list[str], narrow: None, capsys: Printed) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["tools", *command, "--help"])
    assert stop.value.code == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    start = " ".join(["opera-env tools", *command])
    assert any(line == start or line.startswith(f"{start} ") for line in lines)
    if not command:
        text = "\n".join(lines)
        assert all(name in text for name in ("list", "card", "train", "pack", "measure"))


@pytest.mark.needs_weights("lpips")
def test_tools_are_measured_on_degradations_of_ones_own(
    photographs: Path, tmp_path: Path, capsys: Printed
) -> None:
    """Such as those of photographs, one of which no benchmark has."""
    net = build_net("gamma", {"gamma": 1.5})
    tool = Tool(
        "own.deprocess", net, degradations=frozenset({"over_processed"}), net=("gamma", {"gamma": 1.5})
    )
    Toolbox([tool]).save(tmp_path / "box")
    words = f"tools measure {tmp_path / 'box'} --images {photographs} --side 32"
    assert main(words.split()) == 1
    assert "is for none of rain, haze" in one_error(capsys)
    real = "opera_env.degradations.real:REAL_DEGRADATIONS"
    assert main([*words.split(), "--degradations", real]) == 0
    card = read_card(Toolbox.load(tmp_path / "box")["own.deprocess"])
    assert card is not None and len(card.gains) == 9 and "over_processed" in card.gains
