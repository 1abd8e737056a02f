"""Clean photographs that are cropped and degraded on demand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from opera_env.data.images import list_images, to_tensor
from opera_env.data.read import check_image
from opera_env.data.sources.content import combine_hashes, find_image
from opera_env.data.sources.protocol import ImageCache, crop_image, random_crop
from opera_env.degradations import (
    DEGRADATION_CLASSES,
    DegradationType,
    Recipe,
    check_recipe,
    degrade,
    find_depth,
    merge_degradations,
    read_depth,
    sample_recipe,
    training_recipes,
)
from opera_env.errors import SampleError
from opera_env.files import file_sha256
from opera_env.types import Sample, SampleSpec

BUNDLED_IMAGES = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "motorcycle_left.png",
    "retina.jpg",
    "rocket.jpg",
)
"""Colour photographs that come with scikit-image."""


class SyntheticSource:
    """Clean photographs, cropped and degraded on demand.

    Args:
        paths: Image files.
        name: Name of the source in specifications.
        canvas: Side of the square crops, in pixels, a multiple of 4; None for whole images.
        recipes: The recipes to draw from. By default all plausible orders of up to three degradations:
            the 145 training recipes, or more with custom degradations.
        length_weights: Weight of recipes of each length; 1 : 3 : 5 by default.
        depth: Folder of depth maps (``STEM.mat``, ``.npy`` or ``.png``); haze generates the depth of an
            image that has none, and the sample's ``depth`` records it.
        degradations: Custom degradations that recipes may name beside the built-in ones. One with the name
            of a built-in degradation replaces it. See :class:`opera_env.degradations.Degradation`.
        names: Name of each image in specifications; by default that of its file.

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
        length_weights: Mapping[int, float] | None = None,
        depth: Path | str | None = None,
        degradations: Iterable[DegradationType] = (),
        names: Sequence[str] | None = None,
    ) -> None:
        if canvas is not None and (canvas <= 0 or canvas % 4):
            raise SampleError(f"the canvas must be a positive multiple of 4, found {canvas}.")
        if not paths:
            raise SampleError(f"source {name!r} has no images: name at least one file.")
        self.name = name
        self.canvas = canvas
        self._degradations = merge_degradations(degradations)
        if recipes is None:
            recipes = training_recipes(degradations=self._degradations.values())
        self.recipes = tuple(check_recipe(recipe, self._degradations) for recipe in recipes)
        self.length_weights = length_weights
        self.depth = None if depth is None else Path(depth)
        if self.depth is not None and not self.depth.is_dir():
            raise SampleError(
                f"{self.depth}: expected a folder of depth maps, found no folder: check the path."
            )
        self._images = ImageCache(paths)
        self._names = tuple(path.name for path in paths) if names is None else tuple(names)

    @property
    def degradations(self) -> tuple[str, ...]:
        """Labels of samples: the built-in and the custom degradations, in the order of their stages."""
        return tuple(self._degradations)

    def __len__(self) -> int:
        return len(self._images.paths)

    def _clean_image(self, index: int) -> NDArray[np.uint8]:
        """Returns a clean image, cut to multiples of 4 pixels, uint8 (H, W, 3)."""
        image = self._images[self._images.paths[index]]
        height, width = (length // 4 * 4 for length in image.shape[:2])
        if not height or not width:
            raise SampleError(f"{self._images.paths[index]}: smaller than 4 x 4 pixels, leave it out.")
        return image[:height, :width]

    def _draw_spec(self, index: int, recipe: Recipe, rng: Generator) -> SampleSpec:
        height, width = self._clean_image(index).shape[:2]
        crop = random_crop((height, width), self.canvas, 4, rng)
        seed, content = int(rng.integers(2**63)), self._content(index, recipe)
        return SampleSpec(self.name, index, recipe, seed, crop, self._names[index], content)

    def _content(self, index: int, recipe: Recipe) -> str:
        """Returns the digest of what a sample is made of: an image, and its depth map if it is used."""
        image = self._images.sha256(self._images.paths[index])
        depth = self._depth_path(index, recipe)
        return image if depth is None else combine_hashes([image, file_sha256(depth)])

    def _depth_path(self, index: int, recipe: Recipe) -> Path | None:
        """Returns the file of the depth map that a recipe uses; None if there is none or none is used."""
        uses_depth = any(
            name == "haze" or self._degradations[name] is not DEGRADATION_CLASSES.get(name)
            for name in recipe  # a custom degradation may use it
        )
        if self.depth is None or not uses_depth:
            return None
        return find_depth(self.depth, self._images.paths[index].stem)

    def draw(self, rng: Generator) -> SampleSpec:
        """Draws an image, a recipe, a crop and a seed; ``rng`` is the only source of randomness."""
        index = int(rng.integers(len(self)))
        return self._draw_spec(index, sample_recipe(rng, self.recipes, self.length_weights), rng)

    def list_specs(self, count: int, recipes: Sequence[Recipe] | None, rng: Generator) -> list[SampleSpec]:
        """Lists images and recipes in turn; crops and seeds are drawn from ``rng``."""
        if recipes is None:
            recipes = [self.recipes[index] for index in rng.permutation(len(self.recipes))]
        # Each round starts at the next image, so that no image is tied to a few recipes.
        return [
            self._draw_spec((index + index // len(self)) % len(self), recipes[index % len(recipes)], rng)
            for index in range(count)
        ]

    def make(self, spec: SampleSpec) -> Sample:
        """Crops and degrades the image of a specification.

        Raises:
            SampleError: If the specification is of another source or of other content, or its crop cannot
                be used.
            UnknownDegradationError: If its recipe names an unknown degradation.
            ImageFileError: If the file cannot be read.
        """
        recipe = check_recipe(spec.recipe, self._degradations)
        index, spec = find_image(spec, self.name, self._names, lambda index: self._content(index, recipe))
        clean = self._make_reference(crop_image(self._clean_image(index), spec.crop, spec), spec)
        if "low_resolution" in recipe and (clean.shape[0] % 4 or clean.shape[1] % 4):
            raise SampleError(f"low_resolution needs a crop whose sides are multiples of 4: {spec}.")
        depth = self._read_depth(index, spec)
        degraded, _ = degrade(clean, recipe, np.random.default_rng(spec.seed), depth, self._degradations)
        return Sample(
            lq=to_tensor(degraded),
            reference=to_tensor(clean),
            degradations=frozenset(recipe),
            canvas=(clean.shape[0], clean.shape[1]),
            spec=spec,
            depth=("procedural" if depth is None else "file") if "haze" in recipe else None,
        )

    def _make_reference(self, clean: NDArray[np.uint8], spec: SampleSpec) -> NDArray[np.uint8]:
        """Returns the reference of a sample, uint8 (H, W, 3): the crop of the photograph as it is."""
        return clean

    def _read_depth(self, index: int, spec: SampleSpec) -> NDArray[np.float32] | None:
        """Returns the depth map of the crop, float32 (H, W); None if there is none or none is used."""
        path = self._depth_path(index, spec.recipe)
        if path is None:
            return None
        image = self._images[self._images.paths[index]]
        if path.suffix == ".png":
            check_image(path)  # OpenCV would print what is wrong with it
        depth = read_depth(path, (image.shape[0], image.shape[1]))
        if spec.crop is None:
            return depth[: image.shape[0] // 4 * 4, : image.shape[1] // 4 * 4]
        top, left, height, width = spec.crop
        return depth[top : top + height, left : left + width]


def bundled_paths() -> list[Path]:
    """Returns the files of the colour photographs that come with scikit-image."""
    import skimage.data

    folder = Path(skimage.data.data_dir)
    return [folder / name for name in BUNDLED_IMAGES]


def bundled(
    canvas: int | None = 128,
    recipes: Sequence[Recipe] | None = None,
    length_weights: Mapping[int, float] | None = None,
    degradations: Iterable[DegradationType] = (),
) -> SyntheticSource:
    """Returns a :class:`SyntheticSource` of the colour photographs that come with scikit-image."""
    return SyntheticSource(
        bundled_paths(), "bundled", canvas, recipes, length_weights, degradations=degradations
    )


def clean_folder(
    folder: Path | str,
    canvas: int | None = 128,
    recipes: Sequence[Recipe] | None = None,
    length_weights: Mapping[int, float] | None = None,
    depth: Path | str | None = None,
    degradations: Iterable[DegradationType] = (),
) -> SyntheticSource:
    """Returns a :class:`SyntheticSource` of the clean photographs of a folder.

    Raises:
        SampleError: If the folder has no images, or an argument cannot be used.
        UnknownDegradationError: If a recipe names an unknown degradation.
    """
    name = Path(folder).resolve().name
    return SyntheticSource(list_images(folder), name, canvas, recipes, length_weights, depth, degradations)
