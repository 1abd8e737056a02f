"""Draws the studies of several toolboxes: what planning is worth, and the paper's two findings.

Example:
    opera-env study --images bsds500/val --n 80 --toolbox lite --json lite.json
    opera-env study --images bsds500/val --n 80 --toolbox lite-adapted --json adapted.json
    python scripts/study_figures.py lite=lite.json lite-adapted=adapted.json --out study.png
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from opera_env.cli.study import METRICS
from opera_env.command_line import parse_settings
from opera_env.files import atomic_write
from scripts.study_table import read_studies

FACTORS = {
    "repeating matched tools": "repeats",
    "adding unmatched tools": "unmatched tools",
    "any plan less the best matched order": "any plan",
}
"""Planning factors that are drawn, with their labels."""

RANKS = {
    "best_rank_matched": "best plan of\nmatched tools",
    "best_rank_unmatched": "best plan with an\nunmatched tool",
    "rank_repeated": "consensus plans\nwith repeats",
    "rank_deduplicated": "the same\nwithout repeats",
}
"""Aggregated ranks that are drawn, with their labels."""

PAPER = {
    "best_rank_matched": 43.2,
    "best_rank_unmatched": 34.9,
    "rank_repeated": 54.0,
    "rank_deduplicated": 65.3,
}
"""The paper's ranks (its figure 1), of 340 plans."""


@dataclass(frozen=True)
class StudyFiguresConfig:
    """Draws the studies of several toolboxes side by side."""

    studies: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Title and file of each study, TITLE=FILE; `opera-env study --json FILE` writes the file."""
    metric: str = "r_q"
    """Metric of the effects."""
    out: Path = Path("study.png")
    """Image file to write."""


def draw(config: StudyFiguresConfig) -> None:
    """Writes the image: effects of planning on the left, aggregated ranks on the right."""
    studies = read_studies(config.studies)
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[3, 4])
    _draw_effects(left, studies, config.metric)
    _draw_ranks(right, studies)
    with atomic_write(config.out) as part:
        figure.savefig(part, dpi=130, format=config.out.suffix.removeprefix(".") or "png")


def _draw_effects(panel: Axes, studies: Mapping[str, dict[str, Any]], metric: str) -> None:
    """Draws the effect of each factor with its interval, a group of bars for each factor."""
    places = np.arange(len(FACTORS))
    width = 0.8 / len(studies)
    for number, (title, study) in enumerate(studies.items()):
        by_factor = {row["factor"]: row["mean"] for row in study["effects"] if row["metric"] == metric}
        means = [by_factor[factor] for factor in FACTORS]
        heights = [mean["mean"] for mean in means]
        errors = [
            [mean["mean"] - mean["low"] for mean in means],
            [mean["high"] - mean["mean"] for mean in means],
        ]
        panel.bar(
            places + (number + 0.5) * width - 0.4, heights, width, yerr=errors, label=title, capsize=3
        )
    panel.set_xticks(places, list(FACTORS.values()))
    panel.set_ylabel(f"effect in {METRICS[metric][0]}, 95 % interval")
    panel.axhline(0, color="black", linewidth=0.8)
    panel.legend()


def _draw_ranks(panel: Axes, studies: Mapping[str, dict[str, Any]]) -> None:
    """Draws mean aggregated ranks beside those of the paper; lower is better."""
    columns = {title: study["consensus"] for title, study in studies.items()} | {"paper": PAPER}
    places = np.arange(len(RANKS))
    width = 0.8 / len(columns)
    for number, (title, ranks) in enumerate(columns.items()):
        heights = [ranks[name] or np.nan for name in RANKS]
        color = "0.6" if title == "paper" else f"C{number}"
        bars = panel.bar(places + (number + 0.5) * width - 0.4, heights, width, label=title, color=color)
        panel.bar_label(bars, fmt="%.0f", fontsize=7)
    panel.set_xticks(places, list(RANKS.values()), fontsize=8)
    panel.set_ylabel("mean aggregated rank, lower is better")
    panel.legend()


if __name__ == "__main__":
    draw(parse_settings(StudyFiguresConfig))
