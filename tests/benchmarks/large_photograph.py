"""Restores a large synthetic photograph and prints peak memory and seconds per megapixel.

Example:
    python tests/benchmarks/large_photograph.py --megapixels 12 24 --plan unet.denoise,unet.dehaze
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import skimage.data
import tyro
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Large:
    """Restores large photographs, each in a process of its own."""

    megapixels: tuple[float, ...] = (12.0, 24.0)
    """Sizes, in millions of pixels, at 3 : 2."""
    plan: str = "unet.denoise,unet.dehaze,unet.super_resolution_lpips"
    """Tools separated by commas; "agent" lets the default agent plan."""
    max_memory: float = 2.5
    """In GB, as the command's."""


def photograph(megapixels: float, seed: int = 0) -> NDArray[np.uint8]:
    """A mosaic of photographs with noise over it: uint8 (H, W, 3)."""
    height = round((megapixels * 1e6 / 1.5) ** 0.5)
    width = round(height * 1.5)
    rng = np.random.default_rng(seed)
    tiles = [np.asarray(image)[:300, :400] for image in (skimage.data.coffee(), skimage.data.astronaut())]
    rows = [
        np.concatenate([tiles[rng.integers(2)] for _ in range(-(-width // 400))], axis=1)[:, :width]
        for _ in range(-(-height // 300))
    ]
    picture = np.concatenate(rows)[:height]
    for top in range(0, height, 256):  # in strips: noise for all of it would take gigabytes
        strip = picture[top : top + 256] + rng.normal(0, 15, picture[top : top + 256].shape)
        picture[top : top + 256] = strip.clip(0, 255)
    return picture


def peak_while(words: list[str]) -> tuple[float, float, str]:
    """Runs a command; returns the most resident bytes seen, the seconds it took, and what it printed."""
    start, peak = time.perf_counter(), 0
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    watched = psutil.Process(process.pid)
    while process.poll() is None:
        try:
            peak = max(peak, watched.memory_info().rss)
        except psutil.NoSuchProcess:
            break
        time.sleep(0.02)
    printed, said = process.communicate()
    if process.returncode != 0:
        sys.exit(f"{' '.join(words)} ended with {process.returncode}: {said}")
    return peak, time.perf_counter() - start, printed


def main(options: Large) -> None:
    table = Table("megapixels", "peak GB", "process s", "tools", "s per megapixel")
    with tempfile.TemporaryDirectory() as folder:
        for megapixels in options.megapixels:
            source = Path(folder) / f"{megapixels}.jpg"
            picture = photograph(megapixels)
            Image.fromarray(picture).save(source, quality=95)
            command = Path(sys.executable).with_name("opera-env")
            words = [str(command), "restore", str(source), "-o", f"{folder}/out"]
            words += ["--json", "--max-memory", str(options.max_memory)]
            words += [] if options.plan == "agent" else ["--plan", options.plan]
            peak, seconds, printed = peak_while(words)
            done = json.loads(printed)["photographs"][0]
            rates = (s / picture[..., 0].size * 1e6 for s in done["seconds"])
            table.add_row(
                f"{picture[..., 0].size / 1e6:.1f}",
                f"{peak / 1e9:.2f}",
                f"{seconds:.0f}",
                " > ".join(done["plan"]),
                " ".join(f"{rate:.2f}" for rate in rates),
            )
    Console(width=140).print(table)


if __name__ == "__main__":
    main(tyro.cli(Large))
