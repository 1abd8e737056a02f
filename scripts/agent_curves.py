"""Draws learning curves of agents from the TensorBoard files of their runs.

Example:
    python scripts/agent_curves.py planner="runs/planner-*" ppo="runs/ppo-*" --out learning.png
"""

from __future__ import annotations

from dataclasses import dataclass
from glob import glob
from pathlib import Path

import numpy as np
import tyro
from matplotlib.figure import Figure
from numpy.typing import NDArray

from opera_env.command_line import parse_settings
from opera_env.report.curves import read_scalars

BUDGET_TAGS = {
    "budget/images_scored": "images scored",
    "budget/tools_run": "tool calls",
    "budget/seconds": "seconds, one thread",
}


@dataclass(frozen=True)
class AgentCurvesConfig:
    """Draws the validation reward over images scored, tool calls and seconds."""

    runs: tyro.conf.Positional[tuple[str, ...]]
    """NAME=PATTERN of the runs of one agent, one folder for each seed."""
    out: Path = Path("curves.png")
    """Image file to write."""
    lines: tuple[str, ...] = ()
    """NAME=REWARD of horizontal lines, for example the rewards of baselines."""


def read_curve(folder: str, budget_tag: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Reads the budgets and the validation rewards of one run."""
    scalars = read_scalars(Path(folder))
    budgets, rewards = scalars[budget_tag], scalars["val/reward"]
    x = np.interp(list(rewards), [0, *budgets], [0, *budgets.values()])
    return x, np.array(list(rewards.values()))


def draw(config: AgentCurvesConfig) -> None:
    """Writes the image and prints the first and last reward of each run."""
    figure = Figure(figsize=(4.2 * len(BUDGET_TAGS), 3.6), layout="constrained")
    panels = figure.subplots(1, len(BUDGET_TAGS), sharey=True)
    for number, entry in enumerate(config.runs):
        name, _, pattern = entry.partition("=")
        folders = sorted(glob(pattern))
        for budget_tag, panel in zip(BUDGET_TAGS, panels, strict=True):
            curves = [read_curve(folder, budget_tag) for folder in folders]
            grid = np.linspace(0, min(x[-1] for x, _ in curves), 100)
            rewards = np.stack([np.interp(grid, x, y) for x, y in curves])
            color = f"C{number}"
            panel.plot(grid, rewards.mean(0), color=color, label=f"{name} ({len(folders)})")
            panel.fill_between(grid, rewards.min(0), rewards.max(0), color=color, alpha=0.2, linewidth=0)
            for folder, (x, y) in zip(folders, curves, strict=True):
                budget = f"{x[-1]:.0f} {BUDGET_TAGS[budget_tag]}"
                print(f"{name} {folder}: {y[0]:.3f} to {y[-1]:.3f} after {budget}")
    for label, panel in zip(BUDGET_TAGS.values(), panels, strict=True):
        for number, entry in enumerate(config.lines):
            name, _, value = entry.partition("=")
            style = ["--", ":", "-."][number % 3]
            panel.axhline(float(value), color="black", alpha=0.6, linewidth=0.8, linestyle=style)
            panel.annotate(
                name, (0.02, float(value)), xycoords=("axes fraction", "data"), fontsize=7, va="bottom"
            )
        panel.set(xlabel=label)
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("R_q on the validation set")
    panels[0].legend(fontsize=8)
    figure.savefig(config.out, dpi=110)


if __name__ == "__main__":
    draw(parse_settings(AgentCurvesConfig))
