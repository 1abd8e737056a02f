"""How far a tiled result is from the untiled one, for every tool of a toolbox.

Tools that look no further than their halo agree to rounding. One that sees statistics of the whole image
takes them from an overview of it: the difference is what this costs.

Example:
    python scripts/tile_difference.py --image photograph.jpg
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import skimage.data
import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor

from opera_env.data.images import read_image, resize, to_tensor
from opera_env.execution.tiles import restore_in_tiles
from opera_env.restoration import DEFAULT_TOOLBOX
from opera_env.tools import Toolbox


@dataclass(frozen=True)
class Difference:
    """Compares tiled with untiled restoration."""

    image: Path | None = None
    """A photograph; by default one that comes with scikit-image, enlarged to the size."""
    toolbox: str = DEFAULT_TOOLBOX
    """A shipped toolbox or a folder."""
    megapixels: float = 4.0
    """Size that the photograph is brought to."""
    tile: int = 1024
    """Side of the tiles; the default is the largest that the executor uses."""


def photograph(options: Difference) -> Tensor:
    pixels = np.asarray(skimage.data.coffee()) if options.image is None else read_image(options.image)
    image = to_tensor(pixels)[None]
    factor = (options.megapixels * 1e6 / image[0, 0].numel()) ** 0.5
    return resize(image, (round(image.shape[-2] * factor), round(image.shape[-1] * factor))).clamp(0, 1)


@torch.inference_mode()
def main(options: Difference) -> None:
    image = photograph(options)
    canvas = (image.shape[-2], image.shape[-1])
    table = Table("tool", "largest, of 255", "mean, of 255", "PSNR tiled to untiled, dB")
    for tool in Toolbox.load(options.toolbox):
        whole = tool(image.contiguous(memory_format=torch.channels_last), canvas)
        difference = (restore_in_tiles(tool, image, canvas, options.tile**2) - whole).abs()
        psnr = -10 * difference.square().mean().clamp_min(1e-12).log10().item()
        largest, mean = difference.max().item() * 255, difference.mean().item() * 255
        table.add_row(tool.name, f"{largest:.5f}", f"{mean:.5f}", f"{psnr:.1f}")
    Console().print(f"{canvas[1]} x {canvas[0]} pixels, tiles of {options.tile}", table)


if __name__ == "__main__":
    main(tyro.cli(Difference))
