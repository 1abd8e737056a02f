"""The help of every command, trainer and script: filled lines, readable placeholders, no noise."""

from __future__ import annotations

import ast
import importlib.util
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import tyro

from opera_env.cli import main
from opera_env.command_line import parse_settings

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("opera_env", "agents", "baselines", "scripts")
WIDTHS = (80, 120)
PROGRAM = r"^    (?:\w+\(parse_settings\((\w+)\)\)|run_program\((\w+), \w+\))$"
"""How a program names its settings in its last line."""

Printed = pytest.CaptureFixture[str]

COMMANDS = ["", "restore", "compare", "study", "bench", "weights", "tools"]
COMMANDS += [f"tools {action}" for action in ("list", "card", "train", "pack", "measure")]


@pytest.fixture(params=WIDTHS)
def width(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setenv("COLUMNS", str(request.param))
    assert shutil.get_terminal_size().columns == request.param
    return request.param


def programs() -> Iterator[Any]:
    """Yields the module or script of every program, and the name of its settings."""
    for folder in FOLDERS:
        for file in sorted((ROOT / folder).rglob("*.py")):
            if found := re.search(PROGRAM, file.read_text(), re.MULTILINE):
                name = found[1] or found[2]
                yield pytest.param(file, name, id=f"{file.stem}.{name}")


def settings_class(file: Path, name: str) -> Any:
    """Returns the settings of a program, without importing a trainer if they have a module of their own."""
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.ImportFrom) and any(alias.name == name for alias in node.names):
            return getattr(importlib.import_module(str(node.module)), name)
    spec = importlib.util.spec_from_file_location(f"program_{file.stem}", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return getattr(module, name)


def assert_reads_well(text: str, width: int) -> None:
    """Lines fit the width, paragraphs in boxes are filled, and placeholders are words."""
    lines = text.splitlines()
    assert max(len(line) for line in lines) <= width
    assert not re.search(r"None}|: None|STR\b|\[\[|\(default: *\)", text), (
        "placeholders and hints are readable"
    )
    column = next(line.index("show this help") for line in lines if "show this help" in line)
    for line, following in pairwise(lines):
        has_text = line.startswith("│") and line[column - 2 : column] == "  " and line[column] != " "
        if has_text and re.match(rf"│ {{{column - 1}}}\S", following):
            word = following[column:-1].split()[0]
            assert len(line[:-1].rstrip()) + 1 + len(word) > width - 2, f"{word!r} fits after {line!r}"
    assert not re.search(r"\n│ +│\n", text.split(" subcommands ")[0]), "no empty lines"
    warns = "runs the code of the module" in " ".join(text.split())
    assert warns == ("module:attribute" in text), "whoever names code is told that it runs"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_commands(command: str, width: int, capsys: Printed) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*command.split(), "--help"])
    assert stop.value.code == 0
    assert_reads_well(capsys.readouterr().out, width)


@pytest.mark.parametrize(("file", "name"), list(programs()))
def test_help_of_trainers_and_scripts(file: Path, name: str, width: int, capsys: Printed) -> None:
    with pytest.raises(SystemExit) as stop:
        parse_settings(settings_class(file, name), ["--help"], program="python program.py")
    assert stop.value.code == 0
    assert_reads_well(capsys.readouterr().out, width)


def test_every_program_reads_its_settings_in_the_same_way() -> None:
    assert len(list(programs())) >= 20
    files = [file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py")]
    assert [file.name for file in files if "tyro.cli(" in file.read_text()] == ["command_line.py"]


@dataclass(frozen=True)
class Example:
    """Does a thing that is described in a sentence which is so long that it needs more than one line.

    opera-env example --number 3 --names first second third --level high --switch --no-other
        shows a command that is longer than a line of sixty, and an explanation that has
        been broken in the source.
    """

    files: tyro.conf.Positional[tuple[Path, ...]]
    """Files."""
    number: int
    """A number whose help text is broken in the source at a place where the line of a
    terminal does not end."""
    level: Literal["low", "high"] | None = None
    """A level."""
    pair: tuple[float, float] | None = None
    """Two numbers."""
    names: tuple[str, ...] = ()
    """Names."""
    switch: bool = False
    """A switch."""
    other: bool = True
    """Another."""


def help_of(settings: Any, capsys: Printed, **options: Any) -> str:
    with pytest.raises(SystemExit):
        parse_settings(settings, ["--help"], program="opera-env example", **options)
    return capsys.readouterr().out


def test_fields_become_readable_options(monkeypatch: pytest.MonkeyPatch, capsys: Printed) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    text = help_of(Example, capsys)
    assert "FILES ...\n" in text, "a positional argument that is required has no brackets"
    for option in ("--number INT", "--level {low,high}", "--pair FLOAT FLOAT", "--names TEXT ..."):
        assert option in text
    assert "--switch, --no-switch" in text and "--other, --no-other" in text
    assert "opera-env example --number 3 --names first second third \\\n        --level high" in text, (
        "a command can be copied"
    )
    assert "    shows a command that is longer than a line of sixty, and\n    an explanation that" in text


def test_a_switch_that_is_off_needs_no_pair(capsys: Printed) -> None:
    text = help_of(Example, capsys, paired_switches=False)
    assert "--no-switch" not in text and "--other, --no-other" in text


@dataclass(frozen=True)
class First:
    """Does one thing.

    The details of the first.
    """


@dataclass(frozen=True)
class Second:
    """Does another.

    The details of the second.
    """


def test_a_list_of_subcommands_has_one_paragraph_each(capsys: Printed) -> None:
    union = (
        Annotated[First, tyro.conf.subcommand("first")] | Annotated[Second, tyro.conf.subcommand("second")]
    )
    text = help_of(union, capsys, description="Both.")
    assert "Does one thing." in text and "Does another." in text and "details" not in text
    with pytest.raises(SystemExit):
        parse_settings(union, ["second", "--help"], program="opera-env")
    assert "The details of the second." in capsys.readouterr().out


def test_values_are_parsed() -> None:
    arguments = ["a.png", "b.png", "--number", "3", "--pair", "1", "2", "--no-other", "--level", "high"]
    expected = Example((Path("a.png"), Path("b.png")), 3, "high", (1.0, 2.0), other=False)
    assert parse_settings(Example, arguments) == expected
