"""Folders of images for sources."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from numpy.typing import NDArray

from opera_env.data.images import write_image


@pytest.fixture(scope="session")
def write_photographs(coordinate_image: Callable[..., NDArray]) -> Callable[..., Path]:
    """``write_photographs(folder, *sizes)`` writes one coordinate image of each size."""

    def write(folder: Path, *sizes: tuple[int, int]) -> Path:
        for number, size in enumerate(sizes):
            write_image(folder / f"{number}.png", coordinate_image(*size, seed=number))
        return folder

    return write
