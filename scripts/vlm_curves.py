"""Draws the rewards of a vision-language model during GRPO from the TensorBoard files of its runs.

Example:
    python scripts/vlm_curves.py labels=runs/vlm format=runs/vlm-format --out vlm.png
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from matplotlib.figure import Figure
from numpy.typing import NDArray

from opera_env.command_line import parse_settings
from opera_env.report.curves import read_scalars

PANELS = {
    "train/rewards/r_q/mean": "R_q of sampled answers",
    "train/rewards/r_d/mean": "R_d of sampled answers",
    "train/reward": "R of sampled answers",
    "train/answers/reasoning_words": "words of reasoning",
    "train/rewards/tools_run/mean": "tools run in an episode",
}


@dataclass(frozen=True)
class VLMCurvesConfig:
    """Draws moving averages of the parts of the reward over the steps."""

    runs: tyro.conf.Positional[tuple[str, ...]]
    """NAME=FOLDER, the output_dir of a run."""
    out: Path = Path("vlm.png")
    """Image file to write."""
    window: int = 10
    """Number of steps of the moving average."""


def read_curve(folder: Path, tag: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Reads (step, value) of one run, which may consist of several files if it was resumed."""
    values_by_step: dict[int, float] = {}
    for events in sorted((folder / "runs").iterdir()):
        values_by_step |= read_scalars(events).get(tag, {})
    steps = np.array(sorted(values_by_step), np.int64)
    return steps, np.array([values_by_step[step] for step in steps.tolist()])


def moving_average(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Returns the means of the last ``window`` values, of fewer at the beginning."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


def draw(config: VLMCurvesConfig) -> None:
    """Writes the image and prints the first and last average of each curve.

    One-shot runs count words and turn-by-turn runs tools: a quantity has a panel if a run has it.
    """
    folders = {name: Path(folder) for name, _, folder in (entry.partition("=") for entry in config.runs)}
    curves = {tag: {name: read_curve(folder, tag) for name, folder in folders.items()} for tag in PANELS}
    drawn = [tag for tag in PANELS if any(len(steps) for steps, _ in curves[tag].values())]
    figure = Figure(figsize=(3.4 * len(drawn), 3.0), layout="constrained")
    panels = figure.subplots(1, len(drawn), squeeze=False)[0]
    for tag, panel in zip(drawn, panels, strict=True):
        for name, (steps, values) in curves[tag].items():
            if not len(steps):
                continue
            panel.plot(steps, moving_average(values, config.window), label=name)
            first, last = values[: config.window].mean(), values[-config.window :].mean()
            print(f"{name}, {PANELS[tag]}: {first:.3f} to {last:.3f} in {steps[-1]} steps")
        panel.set(xlabel="step", title=PANELS[tag])
        panel.grid(alpha=0.3)
    panels[0].legend(fontsize=8)
    figure.savefig(config.out, dpi=110)


if __name__ == "__main__":
    draw(parse_settings(VLMCurvesConfig))
