"""Measures how far a tiled result is from the untiled one, for every tool of a toolbox.

Tools whose receptive field lies within their halo agree up to rounding. A tool that uses statistics of the
whole image takes them from an overview of it when it runs in tiles, which changes the result slightly.

Example:
    python scripts/tile_difference.py --image photograph.jpg
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import skimage.data
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from opera_env.command_line import parse_settings
from opera_env.data.images import read_image, resize, to_tensor
from opera_env.execution.tiles import restore_in_tiles
from opera_env.restoration import DEFAULT_TOOLBOX
from opera_env.tools import Toolbox


@dataclass(frozen=True)
class TileDifferenceConfig:
    """Compares tiled with untiled restoration."""

    image: Path | None = None
    """A photograph; by default one from scikit-image, resized to the given size."""
    toolbox: str = DEFAULT_TOOLBOX
    """Name of a shipped toolbox, or a folder."""
    megapixels: float = 4.0
    """Size that the photograph is resized to, in millions of pixels."""
    tile: int = 1024
    """Side of a tile in pixels; the default is the largest that the executor uses."""


def load_photograph(config: TileDifferenceConfig) -> Tensor:
    """Returns the photograph as float32 (1, 3, H, W)."""
    pixels = np.asarray(skimage.data.coffee()) if config.image is None else read_image(config.image)
    image = to_tensor(pixels)[None]
    factor = (config.megapixels * 1e6 / image[0, 0].numel()) ** 0.5
    return resize(image, (round(image.shape[-2] * factor), round(image.shape[-1] * factor))).clamp(0, 1)


@torch.inference_mode()
def main(config: TileDifferenceConfig) -> None:
    """Measures every tool and prints a table."""
    image = load_photograph(config)
    canvas = (image.shape[-2], image.shape[-1])
    table = Table("tool", "largest, of 255", "mean, of 255", "PSNR, tiled to untiled, dB")
    for tool in Toolbox.load(config.toolbox):
        whole = tool(image.contiguous(memory_format=torch.channels_last), canvas)
        difference = (restore_in_tiles(tool, image, canvas, config.tile**2) - whole).abs()
        psnr = -10 * difference.square().mean().clamp_min(1e-12).log10().item()
        largest, mean = difference.max().item() * 255, difference.mean().item() * 255
        table.add_row(tool.name, f"{largest:.5f}", f"{mean:.5f}", f"{psnr:.1f}")
    Console().print(f"{canvas[1]} x {canvas[0]} pixels, tiles of {config.tile}", table)


if __name__ == "__main__":
    main(parse_settings(TileDifferenceConfig))
