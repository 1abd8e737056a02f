"""Writes synthetic photographs for training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def _write_photographs(folder: Path, count: int, seed: int, sides: tuple[int, int] = (160, 144)) -> None:
    """Writes smooth, coloured images with a few edges as PNG files."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8))
        picture = np.asarray(coarse.resize(sides, Image.Resampling.BICUBIC)).copy()
        picture[20:60, 30:70] = rng.integers(0, 256, 3)
        Image.fromarray(picture).save(folder / f"{number}.png")


@pytest.fixture(scope="session")
def write_photographs() -> Callable[..., None]:
    return _write_photographs
