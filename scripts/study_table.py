"""Prints the studies of several toolboxes side by side, as Markdown tables.

Example:
    opera-env study --images bsds500/val --n 80 --toolbox lite --json lite.json
    opera-env study --images bsds500/val --n 80 --toolbox lite-adapted --json adapted.json
    python scripts/study_table.py lite=lite.json lite-adapted=adapted.json
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich import box
from rich.table import Table

from opera_env.cli.study import METRICS, consensus_rows
from opera_env.command_line import parse_settings
from opera_env.console import Console
from opera_env.errors import SettingError
from opera_env.evaluation.consensus import ConsensusPlans
from opera_env.evaluation.stats import ConfidenceInterval, format_interval


@dataclass(frozen=True)
class StudyTableConfig:
    """Prints the studies of several toolboxes side by side."""

    studies: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Title and file of each study, TITLE=FILE; `opera-env study --json FILE` writes the file."""
    metrics: tuple[str, ...] = tuple(METRICS)
    """Metrics, a table for each."""


def read_studies(items: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Reads the files of the studies, by title.

    Raises:
        SettingError: If an item is not of the form TITLE=FILE.
    """
    studies: dict[str, dict[str, Any]] = {}
    for item in items:
        title, separator, path = item.partition("=")
        if not separator:
            raise SettingError("studies", item, "TITLE=FILE, such as lite=lite.json")
        studies[title] = json.loads(Path(path).read_text())
    return studies


def effect_table(studies: Mapping[str, dict[str, Any]], metric: str) -> Table:
    """Returns the table of the mean effects by one metric, with 95 % intervals, and of their medians."""
    label, digits = METRICS[metric]
    table = Table(f"effect in {label}, mean [95 %] / median / positive", *studies, box=box.MARKDOWN)
    rows: dict[str, list[str]] = {}
    for study in studies.values():
        for effect in study["effects"]:
            if effect["metric"] == metric:
                mean = format_interval(ConfidenceInterval(**effect["mean"]), digits, signed=True)
                cell = f"{mean} / {effect['median']:.{digits}f} / {100 * effect['fraction']:.0f} %"
                rows.setdefault(effect["factor"], []).append(cell)
    for factor, cells in rows.items():
        table.add_row(factor, *cells)
    return table


def consensus_table(studies: Mapping[str, dict[str, Any]]) -> Table:
    """Returns the table of the plans that several metrics agree on, with the paper's figures."""
    table = Table("plans that are good by three of five metrics", *studies, "paper", box=box.MARKDOWN)
    columns = [
        consensus_rows(ConsensusPlans(**study["consensus"]), study["plans"]) for study in studies.values()
    ]
    for rows in zip(*columns, strict=True):
        cells = (f"{row.consensus or row.all_plans}" for row in rows)
        table.add_row(rows[0].label, *cells, rows[0].paper)
    return table


def tables(config: StudyTableConfig) -> Iterator[Table]:
    """Yields a table for each metric, then that of the consensus plans."""
    studies = read_studies(config.studies)
    for metric in config.metrics:
        yield effect_table(studies, metric)
    yield consensus_table(studies)


if __name__ == "__main__":
    Console(highlight=False, markup=False, width=400).print(*tables(parse_settings(StudyTableConfig)))
