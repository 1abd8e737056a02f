"""What agents and the critic are trained on: photographs with up to three degradations, and with none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from opera_env.data.images import list_images, read_image, write_image
from opera_env.data.sources import SyntheticSource
from opera_env.degradations import TRAINING_RECIPES, Recipe

EVERY = 4
"""One in so many photographs is there a second time, enlarged."""


def training_source(
    images: Path,
    canvas: int = 128,
    enlarged: Path | None = None,
    clean: float = 1.0,
    recipes: Sequence[Recipe] = TRAINING_RECIPES,
    ratio: tuple[float, float, float] = (1, 3, 5),
) -> SyntheticSource:
    """Returns photographs to train on.

    Args:
        images: Folder of clean photographs.
        canvas: Side of the crops.
        enlarged: Folder for enlarged copies of some of them; None does without.
        clean: Weight of photographs that nothing is wrong with.
        recipes: What is done to the others.
        ratio: Weights of photographs with one, two and three degradations; the paper's by default.
    """
    paths = list_images(images)
    if enlarged is not None:
        paths = [*paths, *write_enlarged(paths[::EVERY], enlarged)]
    return SyntheticSource(
        paths, images.resolve().name, canvas, (*recipes, ()), {0: clean, **dict(enumerate(ratio, start=1))}
    )


def write_enlarged(paths: Sequence[Path], folder: Path) -> list[Path]:
    """Writes photographs 1.4 to 2 times as large, unless they are there; returns the files.

    Most photographs that people bring are softer, pixel by pixel, than the small ones of datasets. Whoever
    has only seen those takes softness for blur.
    """
    targets: list[Path] = []
    for number, path in enumerate(paths):
        targets.append(folder / f"{path.stem}.png")
        if not targets[-1].is_file():
            factor = np.random.default_rng(number).uniform(1.4, 2.0)
            large = cv2.resize(read_image(path), None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
            write_image(targets[-1], np.asarray(large, np.uint8))
    return targets
