"""Tables as Markdown, LaTeX, CSV, JSON and text for a terminal."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from io import StringIO
from typing import Any

from rich import box
from rich.table import Table

from opera_env.evaluation.published import PUBLISHED_COMBINATIONS, PUBLISHED_GROUPS
from opera_env.evaluation.summary import Summary
from opera_env.evaluation.tables import TextTable, make_tables

_CSV_COLUMNS = (
    *("benchmark", "protocol", "reward", "judge", "toolbox", "agent", "budget", "scope", "value"),
    *("mean", "low", "high", "samples", "published"),
)
_LATEX_ESCAPES = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "_": r"\_",
    "#": r"\#",
    "$": r"\$",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}


def to_markdown(summary: Summary) -> str:
    """Returns all tables as Markdown."""
    return "\n\n".join(_markdown_table(table) for table in make_tables(summary)) + "\n"


def _markdown_table(table: TextTable) -> str:
    lines = [f"**{_escape_markdown(table.title)}**", ""]
    rows = [table.columns, ("---", *("---:" for _ in table.columns[1:])), *table.rows]
    lines += ["| " + " | ".join(_escape_markdown(cell).strip() for cell in row) + " |" for row in rows]
    notes = "\n".join(f"- {_escape_markdown(note)}" for note in table.notes)
    return "\n".join([*lines, *(["", notes] if notes else [])])


def _escape_markdown(text: str) -> str:
    return text.replace("|", "\\|")


def to_latex(summary: Summary) -> str:
    r"""Returns all tables as LaTeX, for ``\usepackage{booktabs}``."""
    return "\n\n".join(_latex_table(table) for table in make_tables(summary)) + "\n"


def _latex_table(table: TextTable) -> str:
    rows = [" & ".join(map(_escape_latex, row)) + r" \\" for row in (table.columns, *table.rows)]
    notes = "".join(f" {_escape_latex(note)}." for note in table.notes)
    return "\n".join(
        [
            r"\begin{table}",
            rf"\caption{{{_escape_latex(table.title)}.{notes}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(table.columns) - 1)}}}",
            r"\toprule",
            rows[0],
            r"\midrule",
            *rows[1:],
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    )


def _escape_latex(text: str) -> str:
    return "".join(_LATEX_ESCAPES.get(character, character) for character in text.strip())


def to_csv(summary: Summary) -> str:
    """Returns every number on a line of its own, with published ones marked."""
    file = StringIO()
    writer = csv.DictWriter(file, _CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_csv_rows(summary))
    return file.getvalue()


def _csv_rows(summary: Summary) -> Iterator[Mapping[str, Any]]:
    common = {name: getattr(summary, name) for name in ("benchmark", "protocol", "judge")}
    for entry in summary.entries:
        names = ("toolbox", "agent", "budget", "reward", "samples")
        of_entry = common | {name: getattr(entry, name) for name in names}
        for scope, means in entry.means.items():
            for name, interval in means.items():
                yield of_entry | {"scope": scope, "value": name} | _without_nan(asdict(interval))
    if not summary.groups:
        return
    published = [(scope, row) for scope, rows in PUBLISHED_GROUPS.items() for row in rows]
    published += list(PUBLISHED_COMBINATIONS.items())
    for scope, row in published:
        for name, value in row.values.items():
            yield {
                "benchmark": "groups-abc",
                "protocol": "opera",
                "agent": row.method,
                "scope": scope,
                "value": name,
                "mean": value,
                "published": row.source,
            }


def to_json(summary: Summary) -> str:
    """Returns the summary as JSON; a limit of an interval that is not known is null."""
    return json.dumps(_without_nan(asdict(summary)), indent=2) + "\n"


def _without_nan(value: Any) -> Any:
    """Returns JSON types in which NaN, which JSON does not have, is None."""
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def to_rich(table: TextTable) -> Table:
    """Returns a table for a terminal, without its title, which rich would wrap to its width."""
    printed = Table(box=box.SIMPLE, pad_edge=False, padding=(0, 0, 0, 1))
    for number, title in enumerate(table.columns):
        printed.add_column(title, justify="right" if number else "left", no_wrap=True)
    for row in table.rows:
        printed.add_row(*row)
    return printed


FORMATS: Mapping[str, Callable[[Summary], str]] = {
    "markdown": to_markdown,
    "latex": to_latex,
    "csv": to_csv,
    "json": to_json,
}
"""The formats by the names of their options."""
