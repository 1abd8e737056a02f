"""Clean photographs with damage as weather, cameras and the web make it, or with none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from opera_env.data.images import list_images
from opera_env.data.sources.synthetic import SyntheticSource, bundled_paths
from opera_env.degradations import Recipe
from opera_env.degradations.real import LOOKS, REAL_DEGRADATIONS, REAL_LABELS, REAL_RECIPES, draw_look
from opera_env.degradations.real.rule import draw_recipe, list_recipes
from opera_env.types import SampleSpec

_LOOK_STREAM = 1
"""Second number of the seed of looks, whose random numbers differ from those of the degradations."""


class RealSource(SyntheticSource):
    """Samples of the world of real photographs, made from clean ones.

    Recipes are drawn by :data:`opera_env.degradations.real.REAL_RECIPES`: a third of the samples has
    nothing to do. Half of these are photographs as they are, the others look damaged and are not (night,
    fog, shallow focus and others), and their reference is the same picture.

    Args:
        paths: Image files.
        name: Name of the source in specifications.
        canvas: Side of the square crops, in pixels, a multiple of 4; None for whole images.
        recipes: Recipes of the labels :data:`opera_env.degradations.real.REAL_LABELS` to draw from, with
            equal probability, instead of those of the rule.
        names: Names of the images in specifications; those of the files by default.

    Raises:
        SampleError: If there are no images, or an argument cannot be used.
        UnknownDegradationError: If a recipe names an unknown degradation.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        name: str,
        canvas: int | None = 128,
        recipes: Sequence[Recipe] | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        chosen = tuple(REAL_RECIPES) if recipes is None else recipes
        super().__init__(paths, name, canvas, chosen, degradations=REAL_DEGRADATIONS, names=names)
        self._rule: Mapping[Recipe, float] = (
            dict(REAL_RECIPES) if recipes is None else dict.fromkeys(self.recipes, 1 / len(self.recipes))
        )

    @property
    def degradations(self) -> tuple[str, ...]:
        """Labels of samples, in the order in which degradations are applied."""
        return REAL_LABELS

    def draw(self, rng: Generator) -> SampleSpec:
        """Draws an image, a recipe by the rule, a crop and a seed from ``rng`` only."""
        index = int(rng.integers(len(self)))
        return self._draw_spec(index, draw_recipe(rng, self._rule), rng)

    def list_specs(self, count: int, recipes: Sequence[Recipe] | None, rng: Generator) -> list[SampleSpec]:
        """Lists images in turn, and recipes as often as the rule says; given recipes are taken in turn."""
        if recipes is not None:
            return super().list_specs(count, recipes, rng)
        listed = list_recipes(count, rng, self._rule)
        return [self._draw_spec(index % len(self), recipe, rng) for index, recipe in enumerate(listed)]

    def look(self, spec: SampleSpec) -> str | None:
        """Returns the name of the look of a sample, a key of ``LOOKS``, or None if it has none."""
        return None if spec.recipe else draw_look(self._look_generator(spec))

    def _make_reference(self, clean: NDArray[np.uint8], spec: SampleSpec) -> NDArray[np.uint8]:
        if spec.recipe:
            return clean
        rng = self._look_generator(spec)
        name = draw_look(rng)
        return clean if name is None else LOOKS[name](clean, rng)

    @staticmethod
    def _look_generator(spec: SampleSpec) -> Generator:
        return np.random.default_rng((spec.seed, _LOOK_STREAM))


def real_photographs(
    folder: Path | str | None = None, canvas: int | None = 128, recipes: Sequence[Recipe] | None = None
) -> RealSource:
    """Returns a :class:`RealSource` of the clean photographs of a folder.

    Args:
        folder: The folder; None for the photographs that come with scikit-image.
        canvas: Side of the square crops, in pixels, a multiple of 4; None for whole images.
        recipes: Recipes to draw from instead of those of the rule; see :class:`RealSource`.

    Raises:
        SampleError: If the folder has no images, or an argument cannot be used.
        UnknownDegradationError: If a recipe names an unknown degradation.
    """
    if folder is None:
        return RealSource(bundled_paths(), "real:bundled", canvas, recipes)
    return RealSource(list_images(folder), f"real:{Path(folder).resolve().name}", canvas, recipes)
