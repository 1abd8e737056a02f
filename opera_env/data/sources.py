"""Where samples come from: clean photographs degraded on demand, or files that are degraded already."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from opera_env.data.images import list_images, read_image, to_tensor
from opera_env.degradations import (
    TRAINING_RECIPES,
    Recipe,
    check_recipe,
    degrade,
    find_depth,
    read_depth,
    sample_recipe,
)
from opera_env.errors import SampleError
from opera_env.types import Canvas, Sample, SampleSpec

Crop = tuple[int, int, int, int]


@runtime_checkable
class Source(Protocol):
    """Draws specifications and makes the samples they describe.

    ``make`` is a pure function of the specification, on any worker.
    """

    name: str

    def __len__(self) -> int: ...

    def draw(self, rng: Generator) -> SampleSpec:
        """Draws a specification; ``rng`` is the only source of chance."""
        ...

    def list_specs(self, count: int, recipes: Sequence[Recipe], rng: Generator) -> list[SampleSpec]:
        """Lists ``count`` specifications for an evaluation: images and recipes in turn."""
        ...

    def make(self, spec: SampleSpec) -> Sample:
        """Makes the sample.

        Raises:
            SampleError: If the specification is not this source's, or asks for what is not there.
        """
        ...


class _ImageCache:
    """Image files by number, the most recent ones kept in memory."""

    def __init__(self, paths: Sequence[Path], max_bytes: int = 512 * 2**20) -> None:
        self.paths = tuple(paths)
        self._max_bytes = max_bytes
        self._kept: OrderedDict[Path, NDArray[np.uint8]] = OrderedDict()
        self._bytes = 0

    def __getitem__(self, path: Path) -> NDArray[np.uint8]:
        if path not in self._kept:
            image = self._kept[path] = read_image(path)
            self._bytes += image.nbytes
            while self._bytes > self._max_bytes and len(self._kept) > 1:
                self._bytes -= self._kept.popitem(last=False)[1].nbytes
        self._kept.move_to_end(path)
        return self._kept[path]


def _random_crop(size: Canvas, side: int | None, step: int, rng: Generator) -> Crop | None:
    """A square of ``side`` pixels at a multiple of ``step``, less where the image is smaller."""
    if side is None:
        return None
    height, width = (min(side, length) // step * step for length in size)
    top = rng.integers((size[0] - height) // step + 1) * step
    left = rng.integers((size[1] - width) // step + 1) * step
    return int(top), int(left), int(height), int(width)


def _cut(image: NDArray[np.uint8], crop: Crop | None, spec: SampleSpec) -> NDArray[np.uint8]:
    if crop is None:
        return image
    top, left, height, width = crop
    inside = top >= 0 and left >= 0 and top + height <= image.shape[0] and left + width <= image.shape[1]
    if not inside or height <= 0 or width <= 0:
        raise SampleError(f"the crop {crop} lies outside an image of {image.shape[:2]}: {spec}.")
    return np.ascontiguousarray(image[top : top + height, left : left + width])


def _check(source: Source, spec: SampleSpec) -> None:
    if spec.source != source.name:
        raise SampleError(f"the sample was drawn from {spec.source!r}, this source is {source.name!r}.")
    if not 0 <= spec.index < len(source):
        raise SampleError(f"source {source.name!r} has images 0 to {len(source) - 1}, found {spec.index}.")


class SyntheticSource:
    """Clean photographs, cropped and degraded on demand.

    Args:
        paths: Image files.
        name: Name of the source in specifications.
        canvas: Side of the square crops, a multiple of 4; None for whole images.
        recipes: What to draw recipes from; the 145 training recipes by default.
        ratio: Weight of recipes of each length; 1 : 3 : 5 by default.
        depth: Folder of depth maps for haze (``STEM.mat``, ``.npy`` or ``.png``); where an
            image has none, its depth is made up, and the sample says so.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        name: str,
        canvas: int | None = 128,
        recipes: Sequence[Recipe] = TRAINING_RECIPES,
        ratio: Mapping[int, float] | None = None,
        depth: Path | str | None = None,
    ) -> None:
        if canvas is not None and (canvas <= 0 or canvas % 4):
            raise SampleError(f"the canvas must be a positive multiple of 4, found {canvas}.")
        if not paths:
            raise SampleError(f"source {name!r} has no images.")
        self.name = name
        self.canvas = canvas
        self.recipes = tuple(check_recipe(recipe) for recipe in recipes)
        self.ratio = ratio
        self.depth = None if depth is None else Path(depth)
        if self.depth is not None and not self.depth.is_dir():
            raise SampleError(f"{self.depth}: expected a folder of depth maps, found none there.")
        self._images = _ImageCache(paths)

    def __len__(self) -> int:
        return len(self._images.paths)

    def _clean(self, index: int) -> NDArray[np.uint8]:
        image = self._images[self._images.paths[index]]
        height, width = (length // 4 * 4 for length in image.shape[:2])
        if not height or not width:
            raise SampleError(f"{self._images.paths[index]}: smaller than 4 x 4 pixels.")
        return image[:height, :width]

    def _spec(self, index: int, recipe: Recipe, rng: Generator) -> SampleSpec:
        height, width = self._clean(index).shape[:2]
        crop = _random_crop((height, width), self.canvas, 4, rng)
        return SampleSpec(self.name, index, recipe, int(rng.integers(2**63)), crop)

    def draw(self, rng: Generator) -> SampleSpec:
        return self._spec(int(rng.integers(len(self))), sample_recipe(rng, self.recipes, self.ratio), rng)

    def list_specs(self, count: int, recipes: Sequence[Recipe], rng: Generator) -> list[SampleSpec]:
        # One image further every round, so that no image is tied to a few recipes.
        return [
            self._spec((turn + turn // len(self)) % len(self), recipes[turn % len(recipes)], rng)
            for turn in range(count)
        ]

    def make(self, spec: SampleSpec) -> Sample:
        _check(self, spec)
        whole = self._clean(spec.index)
        clean = _cut(whole, spec.crop, spec)
        if "low_resolution" in spec.recipe and (clean.shape[0] % 4 or clean.shape[1] % 4):
            raise SampleError(f"low_resolution needs a crop whose sides are multiples of 4: {spec}.")
        depth = self._depth(spec) if "haze" in spec.recipe else None
        dirty, _ = degrade(clean, spec.recipe, np.random.default_rng(spec.seed), depth)
        return Sample(
            lq=to_tensor(dirty),
            reference=to_tensor(clean),
            degradations=frozenset(spec.recipe),
            canvas=(clean.shape[0], clean.shape[1]),
            spec=spec,
            depth=("procedural" if depth is None else "file") if "haze" in spec.recipe else None,
        )

    def _depth(self, spec: SampleSpec) -> NDArray[np.float32] | None:
        if self.depth is None:
            return None
        path = find_depth(self.depth, self._images.paths[spec.index].stem)
        if path is None:
            return None
        image = self._images[self._images.paths[spec.index]]
        depth = read_depth(path, (image.shape[0], image.shape[1]))
        if spec.crop is None:
            return depth[: image.shape[0] // 4 * 4, : image.shape[1] // 4 * 4]
        top, left, height, width = spec.crop
        return depth[top : top + height, left : left + width]


@dataclass(frozen=True)
class FileEntry:
    """A degraded file and what is known about it.

    Attributes:
        lq: The degraded image.
        hq: The clean image, or None.
        recipe: Degradations in order, as far as known.
        labelled: Whether the recipe is known; an empty recipe then says: nothing is wrong.
    """

    lq: Path
    hq: Path | None = None
    recipe: Recipe = ()
    labelled: bool = False


class FilesSource:
    """Files that are degraded already: pairs, benchmark folders, plain photographs.

    Use :func:`paired`, :func:`agenticir` or :func:`photographs` to make one.

    Args:
        entries: The files.
        name: Name of the source in specifications.
        canvas: Side of square crops, in pixels of the canvas; None for whole images.
        scale: For images without reference: how many times larger the canvas is.
    """

    def __init__(
        self, entries: Sequence[FileEntry], name: str, canvas: int | None = None, scale: int = 1
    ) -> None:
        if not entries:
            raise SampleError(f"source {name!r} has no images.")
        if scale < 1 or (canvas is not None and canvas < 1):
            raise SampleError(f"scale and canvas must be at least 1, found {scale} and {canvas}.")
        self.entries = tuple(entries)
        self.name = name
        self.canvas = canvas
        self.scale = scale
        self._images = _ImageCache([entry.lq for entry in entries])

    def __len__(self) -> int:
        return len(self.entries)

    def _pair(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None, int]:
        """The two images, cut to fit each other, and how many times larger the second is."""
        entry = self.entries[index]
        lq = self._images[entry.lq]
        if entry.hq is None:
            return lq, None, self.scale
        hq = self._images[entry.hq]
        factor = max(1, round(hq.shape[0] / lq.shape[0]))
        sides = tuple(zip(hq.shape[:2], lq.shape[:2], strict=True))
        if any(abs(big - small * factor) >= 4 for big, small in sides):
            raise SampleError(
                f"{entry.lq} is {lq.shape[1]} x {lq.shape[0]} and {entry.hq} is {hq.shape[1]} x "
                f"{hq.shape[0]} pixels: expected the same size, or a whole number of times larger, "
                "give or take 3 pixels."
            )
        # A few pixels too many are cut, never resampled: that would shift the images apart.
        height, width = (min(small, big // factor) for big, small in sides)
        return lq[:height, :width], hq[: height * factor, : width * factor], factor

    def _spec(self, index: int, rng: Generator) -> SampleSpec:
        lq, _, factor = self._pair(index)
        size = (lq.shape[0] * factor, lq.shape[1] * factor)
        crop = _random_crop(size, self.canvas, factor, rng)
        return SampleSpec(self.name, index, self.entries[index].recipe, 0, crop)

    def draw(self, rng: Generator) -> SampleSpec:
        return self._spec(int(rng.integers(len(self))), rng)

    def list_specs(self, count: int, recipes: Sequence[Recipe], rng: Generator) -> list[SampleSpec]:
        """Lists files in turn; the recipes are the files' own."""
        return [self._spec(turn % len(self), rng) for turn in range(count)]

    def make(self, spec: SampleSpec) -> Sample:
        _check(self, spec)
        lq, hq, factor = self._pair(spec.index)
        entry = self.entries[spec.index]
        if spec.crop is not None:
            if any(value % factor for value in spec.crop):
                raise SampleError(f"the crop must be in multiples of {factor} pixels: {spec}.")
            top, left, height, width = (value // factor for value in spec.crop)
            lq = _cut(lq, (top, left, height, width), spec)
            hq = None if hq is None else _cut(hq, spec.crop, spec)
        return Sample(
            lq=to_tensor(lq),
            reference=None if hq is None else to_tensor(hq),
            degradations=frozenset(entry.recipe) if entry.labelled else None,
            canvas=(lq.shape[0] * factor, lq.shape[1] * factor),
            spec=spec,
        )


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


def bundled(
    canvas: int | None = 128,
    recipes: Sequence[Recipe] = TRAINING_RECIPES,
    ratio: Mapping[int, float] | None = None,
) -> SyntheticSource:
    """The colour photographs that come with scikit-image; see :class:`SyntheticSource`."""
    import skimage.data

    folder = Path(skimage.data.data_dir)
    return SyntheticSource([folder / name for name in BUNDLED_IMAGES], "bundled", canvas, recipes, ratio)


def clean_folder(
    folder: Path | str,
    canvas: int | None = 128,
    recipes: Sequence[Recipe] = TRAINING_RECIPES,
    ratio: Mapping[int, float] | None = None,
    depth: Path | str | None = None,
) -> SyntheticSource:
    """A folder of clean photographs; see :class:`SyntheticSource`."""
    name = Path(folder).resolve().name
    return SyntheticSource(list_images(folder), name, canvas, recipes, ratio, depth)


def _paths_by_stem(folder: Path | str) -> dict[str, Path]:
    """The images of a folder by their name without suffix, which no two may share."""
    found: dict[str, Path] = {}
    for path in list_images(folder):
        if path.stem in found:
            raise SampleError(f"{found[path.stem]} and {path} have one name: keep one of them.")
        found[path.stem] = path
    return found


def _find_reference(path: Path, partners: Mapping[str, Path], folder: Path | str) -> Path:
    if path.stem not in partners:
        raise SampleError(f"{path} has no partner of the same name in {folder}.")
    return partners[path.stem]


def paired(lq: Path | str, hq: Path | str, canvas: int | None = None) -> FilesSource:
    """Two folders with equally named files, degraded and clean.

    Raises:
        SampleError: If a degraded image has no clean partner.
    """
    partners = _paths_by_stem(hq)
    entries = [FileEntry(path, _find_reference(path, partners, hq)) for path in list_images(lq)]
    return FilesSource(entries, Path(lq).resolve().name, canvas)


AGENTICIR_DEGRADATIONS: Mapping[str, str] = {
    "dark": "low_light",
    "defocus blur": "defocus_blur",
    "haze": "haze",
    "jpeg compression artifact": "jpeg",
    "low resolution": "low_resolution",
    "motion blur": "motion_blur",
    "noise": "noise",
    "rain": "rain",
}
"""What the benchmark's folders call the degradations."""


def agenticir(root: Path | str, canvas: int | None = None) -> FilesSource:
    """A folder in the layout of the AgenticIR benchmark: ``HQ/ID.png`` and ``LQ/d2/A+B/ID.png``.

    Raises:
        SampleError: If the layout is another one.
    """
    root = Path(root)
    recipes = {path: _parse_recipe(path) for path in sorted(root.glob("LQ/d*/*")) if path.is_dir()}
    if not recipes:
        raise SampleError(f"{root}: expected folders LQ/d2/..., LQ/d3/... and HQ, found none.")
    partners = _paths_by_stem(root / "HQ")
    entries = [
        FileEntry(path, _find_reference(path, partners, root / "HQ"), recipe, labelled=True)
        for folder, recipe in recipes.items()
        for path in list_images(folder)
    ]
    return FilesSource(entries, root.resolve().name, canvas)


def _parse_recipe(folder: Path) -> Recipe:
    """Reads the recipe off a benchmark folder's name."""
    parts = folder.name.split("+")
    if unknown := [part for part in parts if part not in AGENTICIR_DEGRADATIONS]:
        raise SampleError(f"{folder}: {unknown[0]!r} is none of {', '.join(AGENTICIR_DEGRADATIONS)}.")
    return tuple(AGENTICIR_DEGRADATIONS[part] for part in parts)


def photographs(
    paths: Iterable[Path | str] | Path | str, scale: int = 1, canvas: int | None = None
) -> FilesSource:
    """Plain photographs of which nothing is known: a folder, or files.

    Args:
        paths: The folder or the files.
        scale: How many times larger the result shall be.
        canvas: Side of square crops, in pixels of the result; None for whole images.
    """
    if isinstance(paths, str | Path):
        entries = [FileEntry(path) for path in list_images(paths)]
        return FilesSource(entries, Path(paths).resolve().name, canvas, scale)
    return FilesSource([FileEntry(Path(path)) for path in paths], "photographs", canvas, scale)


def resolve_source(source: Source | Path | str | None, canvas: int | None = 128) -> Source:
    """Returns a source as it is; opens None or "bundled" and folders of clean photographs."""
    if source is None or source == "bundled":
        return bundled(canvas)
    if isinstance(source, str | Path):
        return clean_folder(source, canvas)
    return source
