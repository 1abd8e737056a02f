"""Model cards of tools: latency, gains on every degradation, and changes of clean images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from opera_env.degradations import DEGRADATIONS
from opera_env.errors import ToolboxError
from opera_env.files import atomic_write
from opera_env.tools import Tool


@dataclass(frozen=True)
class Gain:
    """Mean changes of the metrics when a tool is applied to images with one degradation.

    Attributes:
        psnr: Change in PSNR over RGB, in dB.
        psnr_y: Change in PSNR on luma, in dB.
        ssim_y: Change in SSIM on luma.
        lpips: Change in LPIPS; negative values are improvements.
        worse: Number of images whose PSNR over RGB falls.
    """

    psnr: float
    psnr_y: float
    ssim_y: float
    lpips: float
    worse: int


@dataclass(frozen=True)
class ToolCard:
    """The measurements of one tool.

    Attributes:
        ms: Time in milliseconds for one result of 128 x 128 pixels on one CPU thread.
        own: Gain on the degradation that the tool is meant to remove, at the strength of its training.
        gains: Gain on each degradation by its name, as the benchmark draws it.
        clean: PSNR over RGB in dB of the mean squared error on clean images, the paper's measure of misuse;
            80 for a tool that does not change them.
        images: Number of images.
        data: Name of the data set.
    """

    ms: float
    own: Gain
    gains: Mapping[str, Gain]
    clean: float
    images: int
    data: str

    def to_json(self) -> dict[str, Any]:
        """Returns the card in JSON types; :meth:`from_json` is the inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ToolCard:
        """Returns the card from the result of :meth:`to_json`."""
        gains = {name: Gain(**gain) for name, gain in data["gains"].items()}
        return cls(**{**data, "own": Gain(**data["own"]), "gains": gains})


def read_card(tool: Tool) -> ToolCard:
    """Returns the card of a tool from the manifest of its toolbox.

    Raises:
        ToolboxError: If the tool has not been measured with its present weights.
    """
    if not tool.measured:
        raise ToolboxError(
            f"tool {tool.name!r} has not been measured with its present weights: run `opera-env tools "
            "measure FOLDER --images DIR`."
        )
    return ToolCard.from_json({key: value for key, value in tool.measured.items() if key != "file"})


def plot_gains(cards: Mapping[str, ToolCard], file: Path) -> None:
    """Writes a heat map of the change in PSNR for every tool and degradation.

    Args:
        cards: The cards of the tools, by name.
        file: PNG, SVG or PDF, by its suffix.
    """
    from matplotlib.figure import Figure  # importing matplotlib takes seconds

    gains = np.array(
        [[card.gains[degradation].psnr for card in cards.values()] for degradation in DEGRADATIONS]
    )
    figure = Figure(figsize=(0.62 * len(cards) + 2.2, 5.6), layout="constrained")
    axes = figure.subplots()
    heat_map = axes.imshow(gains, cmap="RdBu", vmin=-8, vmax=8, aspect="auto")
    axes.set_xticks(range(len(cards)), list(cards), rotation=50, ha="right")
    axes.set_yticks(range(len(DEGRADATIONS)), [name.replace("_", " ") for name in DEGRADATIONS])
    for (row, column), gain in np.ndenumerate(gains):
        colour = "white" if abs(gain) > 5 else "black"
        axes.text(column, row, f"{gain:+.1f}", ha="center", va="center", fontsize=8, color=colour)
    figure.colorbar(heat_map, label="change in PSNR, dB", extend="both", pad=0.01)
    with atomic_write(file) as part:
        figure.savefig(part, format=file.suffix.lstrip(".") or "png", dpi=130)
