"""The console prints names as they are, without what a terminal would obey."""

from __future__ import annotations

import os
from io import StringIO

import pytest
from rich.table import Table

from opera_env.console import Console, escape_controls

HOSTILE = "a\x1b[31m\x07\r:smile:.png"
ESCAPED = r"a\x1b[31m\x07\r:smile:.png"


def printed(*objects: object, **options: object) -> str:
    file = StringIO()
    Console(file=file, width=80, **options).print(*objects)
    return file.getvalue()


@pytest.mark.parametrize("markup", [True, False])
def test_control_characters_are_escaped_in_lines_and_tables(markup: bool) -> None:
    assert printed(HOSTILE, markup=markup) == f"{ESCAPED}\n"
    table = Table("name", HOSTILE)
    table.add_row("x", HOSTILE)
    text = printed(table, markup=markup)
    assert "\x1b" not in text and text.count(ESCAPED) == 2


def test_line_breaks_tabs_and_letters_stay() -> None:
    assert printed("two\nlines") == "two\nlines\n"
    assert escape_controls("café 写真") == "café 写真"
    assert printed("a\tb", soft_wrap=True).split() == ["a", "b"]


def test_styles_are_still_printed() -> None:
    file = StringIO()
    Console(file=file, force_terminal=True, color_system="standard").print("[red]failed[/red]")
    assert file.getvalue() == "\x1b[31mfailed\x1b[0m\n"


def test_a_closed_pipe_is_an_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with pytest.raises(BrokenPipeError), os.fdopen(writer, "w") as file:
        Console(file=file).print("nobody reads this")
