"""The terminal: names that it would obey as commands are escaped, and a closed pipe is an error."""

from __future__ import annotations

import errno
import os
from typing import Any

from rich.console import Console as RichConsole
from rich.table import Table
from rich.text import Text

_WIDEST = 10_000
"""Width of a terminal, in characters, in which every table has room."""


def escape_controls(text: str) -> str:
    r"""Replaces characters that a terminal would obey, as file names may contain them, by escapes.

    Args:
        text: Any text.

    Example:
        >>> print(escape_controls("caf\u00e9 \x1b[31mred\n.jpg"))
        café \x1b[31mred\n.jpg
    """
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


class Console(RichConsole):
    """A console of rich that prints what it is given.

    Control characters in texts and in cells of tables are printed as escapes, except line breaks and tabs;
    nothing is taken for the name of an emoji. A closed pipe raises ``BrokenPipeError``, where rich's own
    console ends the process with exit code 1.

    Args:
        **options: Options of rich's console.
    """

    def __init__(self, **options: Any) -> None:
        options.setdefault("emoji", False)
        super().__init__(**options)

    def render_str(self, text: str, **options: Any) -> Text:
        escaped = "\n".join("\t".join(map(escape_controls, line.split("\t"))) for line in text.split("\n"))
        return super().render_str(escaped, **options)

    def print_uncut(self, table: Table, narrowest: Table | None = None) -> None:
        """Prints a table without cutting any cell, where rich cuts what is wider than the terminal.

        Args:
            table: The table.
            narrowest: The table with its narrowest columns, if those of ``table`` may be wider.
        """
        terminal_width = self.width
        options = self.options.update(width=_WIDEST)
        needed = self.measure(narrowest or table, options=options).maximum
        self.width = max(terminal_width, needed)
        self.print(table, crop=False)
        self.width = terminal_width

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
