"""Draws the learning curves of the tools of a toolbox from the TensorBoard files of their training.

Example:
    python scripts/tool_training_curves.py runs/lite --out docs/figures/lite-training.png
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import tyro
from matplotlib.figure import Figure

from opera_env.command_line import parse_settings
from opera_env.report.curves import read_scalars
from opera_env.tool_training.lite_tools import LITE_TOOLS


@dataclass(frozen=True)
class ToolCurvesConfig:
    """Draws the validation gain of every tool over its training steps, one panel for each degradation."""

    runs: tyro.conf.Positional[Path]
    """Folder with one subfolder for each trained tool."""
    out: Path = Path("curves.png")
    """Image file to write."""


def read_gains(folder: Path) -> list[tuple[int, float]]:
    """Reads (step, gain in dB) of one tool; the list is empty if the tool was not trained here."""
    if not folder.is_dir():
        return []
    return list(read_scalars(folder).get("val/psnr_gain", {}).items())


def draw(config: ToolCurvesConfig) -> None:
    """Writes the image and prints its figures."""
    curves = [(spec, read_gains(config.runs / spec.name)) for spec in LITE_TOOLS if spec.steps]
    curves = [(spec, curve) for spec, curve in curves if curve]
    degradations = list(dict.fromkeys(spec.degradation for spec, _ in curves))
    columns = min(4, len(degradations))
    rows = math.ceil(len(degradations) / columns)
    figure = Figure(figsize=(3.6 * columns, 3.2 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flat
    panels = dict(zip(degradations, axes, strict=False))
    for unused in axes[len(degradations) :]:
        unused.axis("off")
    for spec, curve in curves:
        panels[spec.degradation].plot(*zip(*curve, strict=True), marker=".", label=spec.name)
        print(spec.name, " ".join(f"{step}:{gain:+.2f}" for step, gain in curve))
    for degradation, panel in panels.items():
        panel.set(title=degradation.replace("_", " "), xlabel="steps")
        panel.legend(fontsize=7)
        panel.grid(alpha=0.3)
        panel.set_ylabel("gain in PSNR, dB")
    figure.savefig(config.out, dpi=110)


if __name__ == "__main__":
    draw(parse_settings(ToolCurvesConfig))
