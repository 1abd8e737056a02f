"""Training data of the agents and the critic: clean photographs with zero to three degradations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np

from opera_env.data.images import list_images, read_image, write_image
from opera_env.data.sources import SyntheticSource
from opera_env.degradations import DegradationType, Recipe, merge_degradations, training_recipes

ENLARGE_EVERY = 4
"""Every fourth photograph is also used as an enlarged copy."""


def training_source(
    images: Path,
    canvas: int = 128,
    enlarged_dir: Path | None = None,
    clean_weight: float = 1.0,
    recipes: Sequence[Recipe] | None = None,
    degradation_count_weights: tuple[float, float, float] = (1, 3, 5),
    degradations: Iterable[DegradationType] = (),
) -> SyntheticSource:
    """Returns a source of training samples.

    Args:
        images: Folder of clean photographs.
        canvas: Side of the crops in pixels.
        enlarged_dir: Folder for enlarged copies of some photographs; None uses no enlarged copies.
        clean_weight: Relative frequency of samples without degradations.
        recipes: Recipes of the other samples; by default all plausible orders of up to three degradations.
        degradation_count_weights: Relative frequencies of samples with one, two and three degradations; by
            default those of the paper.
        degradations: Custom degradations beside the built-in ones.
    """
    custom_degradations = tuple(degradations)
    if recipes is None:
        recipes = training_recipes(degradations=merge_degradations(custom_degradations).values())
    paths = list_images(images)
    if enlarged_dir is not None:
        paths = [*paths, *write_enlarged(paths[::ENLARGE_EVERY], enlarged_dir)]
    weights = {0: clean_weight, **dict(enumerate(degradation_count_weights, start=1))}
    name = images.resolve().name
    return SyntheticSource(paths, name, canvas, (*recipes, ()), weights, degradations=custom_degradations)


def write_enlarged(paths: Sequence[Path], folder: Path) -> list[Path]:
    """Writes copies of photographs, enlarged by a factor of 1.4 to 2; existing copies are kept.

    Most photographs of users are softer, pixel by pixel, than the small ones of datasets. An agent that was
    trained on datasets alone takes softness for blur.

    Args:
        paths: The photographs; the factor of each depends on its position.
        folder: Folder of the copies.

    Returns:
        The paths of the copies.
    """
    targets: list[Path] = []
    for index, path in enumerate(paths):
        targets.append(folder / f"{path.stem}.png")
        if not targets[-1].is_file():
            factor = np.random.default_rng(index).uniform(1.4, 2.0)
            enlarged = cv2.resize(
                read_image(path), None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC
            )
            write_image(targets[-1], np.asarray(enlarged, np.uint8))
    return targets
