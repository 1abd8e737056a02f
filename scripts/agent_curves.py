"""Draws how agents learned, from the tensorboard files of their runs.

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
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

BUDGET_TAGS = {
    "budget/images_scored": "images scored",
    "budget/tools_run": "tool applications",
    "budget/seconds": "seconds, one thread",
}


@dataclass(frozen=True)
class Curves:
    """Draws the reward on the validation set over images scored, tool applications and seconds."""

    runs: tyro.conf.Positional[tuple[str, ...]]
    """NAME=PATTERN: the runs of one learner, a folder a seed."""
    out: Path = Path("curves.png")
    """Picture to write."""
    lines: tuple[str, ...] = ()
    """NAME=REWARD: horizontal lines."""


def curve(folder: str, axis: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Reads (budget, reward) of one run."""
    events = EventAccumulator(folder)
    events.Reload()
    spent = {event.step: event.value for event in events.Scalars(axis)}
    steps, budgets = np.array(sorted(spent)), np.array([spent[step] for step in sorted(spent)])
    rewards = {event.step: event.value for event in events.Scalars("val/reward")}
    at = np.array(sorted(rewards))
    x = np.interp(at, np.concatenate([[0], steps]), np.concatenate([[0], budgets]))
    return x, np.array([rewards[step] for step in at])


def draw(config: Curves) -> None:
    """Writes the picture and prints where each run ends."""
    figure = Figure(figsize=(4.2 * len(BUDGET_TAGS), 3.6), layout="constrained")
    panels = figure.subplots(1, len(BUDGET_TAGS), sharey=True)
    for number, entry in enumerate(config.runs):
        name, _, pattern = entry.partition("=")
        folders = sorted(glob(pattern))
        for axis, panel in zip(BUDGET_TAGS, panels, strict=True):
            curves = [curve(folder, axis) for folder in folders]
            grid = np.linspace(0, min(x[-1] for x, _ in curves), 100)
            rewards = np.stack([np.interp(grid, x, y) for x, y in curves])
            colour = f"C{number}"
            panel.plot(grid, rewards.mean(0), color=colour, label=f"{name} ({len(folders)})")
            panel.fill_between(grid, rewards.min(0), rewards.max(0), color=colour, alpha=0.2, linewidth=0)
            for folder, (x, y) in zip(folders, curves, strict=True):
                print(f"{name} {folder}: {y[0]:.3f} to {y[-1]:.3f} after {x[-1]:.0f} {BUDGET_TAGS[axis]}")
    for (_, label), panel in zip(BUDGET_TAGS.items(), panels, strict=True):
        for number, entry in enumerate(config.lines):
            name, _, value = entry.partition("=")
            panel.axhline(
                float(value),
                color="black",
                alpha=0.6,
                linewidth=0.8,
                linestyle=["--", ":", "-."][number % 3],
            )
            panel.annotate(
                name, (0.02, float(value)), xycoords=("axes fraction", "data"), fontsize=7, va="bottom"
            )
        panel.set(xlabel=label)
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("R_q on the validation set")
    panels[0].legend(fontsize=8)
    figure.savefig(config.out, dpi=110)


if __name__ == "__main__":
    draw(tyro.cli(Curves))
