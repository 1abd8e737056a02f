"""Draws what a vision-language model earned while GRPO trained it, from the tensorboard files of its runs.

python scripts/vlm_curves.py labelled=runs/vlm format=runs/vlm-format --out vlm.png
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from matplotlib.figure import Figure
from numpy.typing import NDArray
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

PANELS = {
    "train/rewards/r_q/mean": "R_q of drawn answers",
    "train/rewards/r_d/mean": "R_d of drawn answers",
    "train/rewards/total/mean": "R of drawn answers",
    "train/answers/reasoning_words": "words of reasoning",
}


@dataclass(frozen=True)
class Curves:
    """Draws running means of each part of the reward over the steps."""

    runs: tyro.conf.Positional[tuple[str, ...]]
    """NAME=FOLDER: the output_dir of a run."""
    out: Path = Path("vlm.png")
    """Picture to write."""
    over: int = 10
    """Steps that a running mean is over."""


def curve(folder: Path, tag: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Reads (step, value) of one run, which may have been stopped and gone on."""
    found: dict[int, float] = {}
    for events in sorted((folder / "runs").iterdir()):
        read = EventAccumulator(str(events)).Reload()
        if tag in read.Tags()["scalars"]:
            found |= {event.step: event.value for event in read.Scalars(tag)}
    steps = np.array(sorted(found), np.int64)
    return steps, np.array([found[step] for step in steps.tolist()])


def running_mean(values: NDArray[np.float64], over: int) -> NDArray[np.float64]:
    """Means of the last ``over`` values, or of as many as there are."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - over, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


def draw(config: Curves) -> None:
    """Writes the picture and prints where each curve begins and ends."""
    figure = Figure(figsize=(3.4 * len(PANELS), 3.0), layout="constrained")
    panels = figure.subplots(1, len(PANELS))
    for entry in config.runs:
        name, _, folder = entry.partition("=")
        for (tag, label), panel in zip(PANELS.items(), panels, strict=True):
            steps, values = curve(Path(folder), tag)
            panel.plot(steps, running_mean(values, config.over), label=name)
            first, last = values[: config.over].mean(), values[-config.over :].mean()
            print(f"{name}, {label}: {first:.3f} to {last:.3f} in {steps[-1]} steps")
    for label, panel in zip(PANELS.values(), panels, strict=True):
        panel.set(xlabel="step", title=label)
        panel.grid(alpha=0.3)
    panels[0].legend(fontsize=8)
    figure.savefig(config.out, dpi=110)


if __name__ == "__main__":
    draw(tyro.cli(Curves))
