"""Draws how the tools of a toolbox learned, from the tensorboard files of their training.

python scripts/tool_training_curves.py runs/lite --out docs/figures/lite-training.png
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from opera_env.tool_training.lite import LITE_TOOLS


@dataclass(frozen=True)
class Curves:
    """Draws the validation gain of every tool over its training, a panel for each degradation."""

    runs: tyro.conf.Positional[Path]
    """Folder with one folder a trained tool."""
    out: Path = Path("curves.png")
    """Picture to write."""


def gains(folder: Path) -> list[tuple[int, float]]:
    """Reads (step, gain in dB) of one tool, none if it has not been trained here."""
    if not folder.is_dir():
        return []
    events = EventAccumulator(str(folder))
    events.Reload()
    if "val/psnr_gain" not in events.Tags()["scalars"]:
        return []
    return sorted({event.step: event.value for event in events.Scalars("val/psnr_gain")}.items())


def draw(config: Curves) -> None:
    """Writes the picture and prints the figures in it."""
    curves = [(recipe, gains(config.runs / recipe.name)) for recipe in LITE_TOOLS if recipe.steps]
    curves = [(recipe, curve) for recipe, curve in curves if curve]
    kinds = list(dict.fromkeys(recipe.degradation for recipe, _ in curves))
    figure = Figure(figsize=(3.6 * len(kinds), 3.2), layout="constrained")
    panels = dict(zip(kinds, figure.subplots(1, len(kinds), squeeze=False)[0], strict=True))
    for recipe, curve in curves:
        panels[recipe.degradation].plot(*zip(*curve, strict=True), marker=".", label=recipe.name)
        print(recipe.name, " ".join(f"{step}:{gain:+.2f}" for step, gain in curve))
    for kind, axes in panels.items():
        axes.set(title=kind.replace("_", " "), xlabel="steps")
        axes.legend(fontsize=7)
        axes.grid(alpha=0.3)
    panels[kinds[0]].set_ylabel("gain in PSNR, dB")
    figure.savefig(config.out, dpi=110)


if __name__ == "__main__":
    draw(tyro.cli(Curves))
