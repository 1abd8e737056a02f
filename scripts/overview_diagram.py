"""Draws the diagram of environment, agent and execution update that the README shows.

Example:
    python scripts/overview_diagram.py --out docs/figures/overview.svg
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from opera_env.command_line import parse_settings


@dataclass(frozen=True)
class OverviewDiagramConfig:
    """Draws the diagram of the README."""

    out: Path = Path("overview.svg")
    """Image file to write."""


def box(axes: Axes, corner: tuple[float, float], size: tuple[float, float], text: str, color: str) -> None:
    """Draws a rounded box; ``corner`` is its lower left corner. The first line of the text is bold."""
    axes.add_patch(
        FancyBboxPatch(corner, *size, boxstyle="round,pad=0,rounding_size=0.12", fc=color, ec="0.35")
    )
    title, _, body = text.partition("\n")
    x, top = corner[0] + size[0] / 2, corner[1] + size[1]
    axes.text(x, top - 0.16, title, ha="center", va="top", fontsize=10.5, weight="bold")
    axes.text(x, top - 0.5, body, ha="center", va="top", fontsize=9, linespacing=1.35)


def arrow(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], text: str, center: tuple[float, float]
) -> None:
    """Draws an arrow and its label; ``center`` is the centre of the label."""
    axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=13, color="0.25", lw=1.3))
    axes.text(*center, text, ha="center", va="center", fontsize=9, linespacing=1.25)


def draw(config: OverviewDiagramConfig) -> None:
    """Writes the diagram."""
    figure = Figure(figsize=(9.4, 3.9), facecolor="white")
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set(xlim=(0, 9.4), ylim=(0, 3.9))
    axes.axis("off")
    axes.add_patch(
        FancyBboxPatch(
            (3.55, 0.2), 5.7, 3.5, boxstyle="round,pad=0,rounding_size=0.15", fc="#f4f6f9", ec="0.6"
        )
    )
    axes.text(6.4, 3.5, "environment", ha="center", va="center", fontsize=11, weight="bold", color="0.25")
    box(axes, (0.15, 1.85), (1.75, 1.45), "agent\nplanner, PPO, VLM,\nsearch, yours", "#dbe8fb")
    box(axes, (3.75, 2.05), (1.6, 1.15), "sample\ndegraded image,\nreference hidden", "#ffffff")
    box(axes, (5.75, 2.05), (1.55, 1.15), "toolbox\n18 restoration\ntools", "#fdeccf")
    box(axes, (7.6, 2.05), (1.5, 1.15), "scorer\nmetrics of the\nresult: R_q", "#e2f2df")
    box(axes, (5.0, 0.4), (3.05, 0.82), "execution update\ntrains the tools under plans", "#fbdede")
    arrow(axes, (5.35, 2.62), (5.75, 2.62), "", (0, 0))
    arrow(axes, (7.3, 2.62), (7.6, 2.62), "", (0, 0))
    arrow(axes, (3.75, 3.0), (1.9, 3.0), "observation", (2.75, 3.16))
    arrow(axes, (1.9, 2.55), (3.75, 2.55), "action: a plan\n(dejpeg, denoise)", (2.75, 2.27))
    axes.plot((8.35, 8.35, 1.0), (2.05, 1.62, 1.62), color="0.25", lw=1.3)
    arrow(axes, (1.0, 1.62), (1.0, 1.85), "reward = R_q - tool cost", (2.5, 1.46))
    axes.plot((0.55, 0.55), (1.85, 0.81), color="0.25", lw=1.3)
    arrow(axes, (0.55, 0.81), (5.0, 0.81), "plans to train under", (2.5, 0.95))
    arrow(axes, (6.5, 1.22), (6.5, 2.05), "new weights", (7.05, 1.42))
    mpl.rcParams["svg.hashsalt"] = "opera-env"  # equal input gives an equal file
    figure.savefig(config.out, dpi=130, metadata={"Date": None} if config.out.suffix == ".svg" else None)


if __name__ == "__main__":
    draw(parse_settings(OverviewDiagramConfig))
