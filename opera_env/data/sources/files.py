"""Files that are degraded already: pairs, benchmark folders and plain photographs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from opera_env.data.images import list_images, to_tensor
from opera_env.data.sources.content import combine_hashes, find_image
from opera_env.data.sources.protocol import ImageCache, crop_image, random_crop
from opera_env.degradations import DEGRADATIONS, Recipe
from opera_env.errors import SampleError
from opera_env.types import Sample, SampleSpec


@dataclass(frozen=True)
class FileEntry:
    """A degraded image file with its reference and recipe, as far as they are known.

    Attributes:
        lq: File of the degraded image.
        reference: File of the clean image; None if there is none.
        recipe: Degradations in the order in which they were applied, as far as known.
        labelled: Whether the recipe is known. An empty recipe then means that nothing was applied.
    """

    lq: Path
    reference: Path | None = None
    recipe: Recipe = ()
    labelled: bool = False


class FilesSource:
    """Files that are degraded already: pairs, benchmark folders, plain photographs.

    Use :func:`paired`, :func:`agenticir` or :func:`photographs` to make one.

    Args:
        entries: The files.
        name: Name of the source in specifications.
        canvas: Side of square crops, in pixels of the canvas; None for whole images.
        scale: For images without reference: side of the canvas divided by the side of the image.
        root: Folder in which the degraded images lie. Specifications name an image by its path from there;
            None for the names of the files alone.

    Raises:
        SampleError: If there are no files, or an argument cannot be used.
    """

    def __init__(
        self,
        entries: Sequence[FileEntry],
        name: str,
        canvas: int | None = None,
        scale: int = 1,
        root: Path | None = None,
    ) -> None:
        if not entries:
            raise SampleError(f"source {name!r} has no images: name at least one file.")
        if scale < 1 or (canvas is not None and canvas < 1):
            raise SampleError(f"scale and canvas must be at least 1, found {scale} and {canvas}.")
        self.entries = tuple(entries)
        self.name = name
        self.canvas = canvas
        self.scale = scale
        self._images = ImageCache([entry.lq for entry in entries])
        self._names = tuple(
            entry.lq.name if root is None else entry.lq.relative_to(root).as_posix() for entry in entries
        )

    @property
    def degradations(self) -> tuple[str, ...]:
        """Labels of the files: built-in degradations in their order, then custom ones."""
        labels = dict.fromkeys(name for entry in self.entries if entry.labelled for name in entry.recipe)
        custom = [name for name in labels if name not in DEGRADATIONS]
        return (*(name for name in DEGRADATIONS if name in labels), *custom)

    def __len__(self) -> int:
        return len(self.entries)

    def _read_pair(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None, int]:
        """Returns the two images, cut to fit each other, and how many times larger the second is."""
        entry = self.entries[index]
        lq = self._images[entry.lq]
        if entry.reference is None:
            return lq, None, self.scale
        reference = self._images[entry.reference]
        scale = max(1, round(reference.shape[0] / lq.shape[0]))
        sides = tuple(zip(reference.shape[:2], lq.shape[:2], strict=True))
        if any(abs(large - small * scale) >= 4 for large, small in sides):
            raise SampleError(
                f"{entry.lq} is {lq.shape[1]} x {lq.shape[0]} and {entry.reference} is "
                f"{reference.shape[1]} x {reference.shape[0]} pixels: expected the same size, or a whole "
                "number of times larger, with a tolerance of 3 pixels."
            )
        # A few pixels too many are cut, never resampled: that would shift the images apart.
        height, width = (min(small, large // scale) for large, small in sides)
        return lq[:height, :width], reference[: height * scale, : width * scale], scale

    def _draw_spec(self, index: int, rng: Generator) -> SampleSpec:
        lq, _, scale = self._read_pair(index)
        size = (lq.shape[0] * scale, lq.shape[1] * scale)
        crop = random_crop(size, self.canvas, scale, rng)
        entry, name, content = self.entries[index], self._names[index], self._content(index)
        return SampleSpec(self.name, index, entry.recipe, 0, crop, name, content)

    def _content(self, index: int) -> str:
        """Returns the digest of an image and its reference."""
        entry = self.entries[index]
        paths = [entry.lq] if entry.reference is None else [entry.lq, entry.reference]
        return combine_hashes([self._images.sha256(path) for path in paths])

    def draw(self, rng: Generator) -> SampleSpec:
        """Draws the specification of a random file and crop; ``rng`` is the only source of randomness."""
        return self._draw_spec(int(rng.integers(len(self))), rng)

    def list_specs(self, count: int, recipes: Sequence[Recipe] | None, rng: Generator) -> list[SampleSpec]:
        """Lists files in turn; ``recipes`` is ignored, because the files have been degraded already."""
        return [self._draw_spec(index % len(self), rng) for index in range(count)]

    def make(self, spec: SampleSpec) -> Sample:
        """Reads the files of a specification and crops them.

        Raises:
            SampleError: If the specification is of another source or of other content, or its crop cannot
                be used.
            ImageFileError: If a file cannot be read.
        """
        index, spec = find_image(spec, self.name, self._names, self._content)
        lq, reference, scale = self._read_pair(index)
        entry = self.entries[index]
        if spec.recipe and spec.recipe != entry.recipe:
            raise SampleError(
                f"image {self._names[index]!r} of source {self.name!r} is degraded already, by "
                f"{'+'.join(entry.recipe) or 'a recipe that is not known'}; found a specification with "
                f"{'+'.join(spec.recipe)}: leave the recipe out, or use a source of clean photographs."
            )
        if spec.crop is not None:
            if any(value % scale for value in spec.crop):
                raise SampleError(f"the crop must be in multiples of {scale} pixels: {spec}.")
            top, left, height, width = (value // scale for value in spec.crop)
            lq = crop_image(lq, (top, left, height, width), spec)
            reference = None if reference is None else crop_image(reference, spec.crop, spec)
        return Sample(
            lq=to_tensor(lq),
            reference=None if reference is None else to_tensor(reference),
            degradations=frozenset(entry.recipe) if entry.labelled else None,
            canvas=(lq.shape[0] * scale, lq.shape[1] * scale),
            spec=spec,
        )


def _paths_by_stem(folder: Path | str) -> dict[str, Path]:
    """Returns the image files of a folder by their names without suffix, which must be distinct."""
    paths: dict[str, Path] = {}
    for path in list_images(folder):
        if path.stem in paths:
            raise SampleError(f"{paths[path.stem]} and {path} have the same name: keep one of them.")
        paths[path.stem] = path
    return paths


def _find_reference(path: Path, references: Mapping[str, Path], folder: Path | str) -> Path:
    if path.stem not in references:
        raise SampleError(
            f"{path} has no partner of the same name in {folder}: add it, or remove the file."
        )
    return references[path.stem]


def paired(
    lq: Path | str, reference: Path | str, canvas: int | None = None, recipe: Recipe | None = None
) -> FilesSource:
    """Returns a source of pairs: two folders with equally named files, degraded and clean.

    Args:
        lq: Folder of degraded images.
        reference: Folder of clean images.
        canvas: Side of square crops, in pixels of the clean images; None for whole images.
        recipe: Degradations of all images; None if they are not known.

    Raises:
        SampleError: If a degraded image has no clean partner.
    """
    references = _paths_by_stem(reference)
    entries = [
        FileEntry(path, _find_reference(path, references, reference), recipe or (), recipe is not None)
        for path in list_images(lq)
    ]
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
"""The degradations by their names in the folders of the AgenticIR benchmark."""


def agenticir(root: Path | str, canvas: int | None = None) -> FilesSource:
    """Returns the source of a folder in the layout of AgenticIR: ``HQ/ID.png`` and ``LQ/d2/A+B/ID.png``.

    Args:
        root: The folder that holds ``HQ`` and ``LQ``.
        canvas: Side of square crops, in pixels of the clean images; None for whole images.

    Raises:
        SampleError: If the folder has another layout.
    """
    root = Path(root)
    recipes = {path: _parse_recipe(path) for path in sorted(root.glob("LQ/d*/*")) if path.is_dir()}
    if not recipes:
        raise SampleError(f"{root}: expected folders LQ/d2/..., LQ/d3/... and HQ, found none.")
    references = _paths_by_stem(root / "HQ")
    entries = [
        FileEntry(path, _find_reference(path, references, root / "HQ"), recipe, labelled=True)
        for folder, recipe in recipes.items()
        for path in list_images(folder)
    ]
    return FilesSource(entries, root.resolve().name, canvas, root=root / "LQ")


def _parse_recipe(folder: Path) -> Recipe:
    """Reads the recipe from the name of a benchmark folder."""
    names = folder.name.split("+")
    if unknown := [name for name in names if name not in AGENTICIR_DEGRADATIONS]:
        raise SampleError(
            f"{folder}: {unknown[0]!r} is none of {', '.join(AGENTICIR_DEGRADATIONS)}: rename it."
        )
    return tuple(AGENTICIR_DEGRADATIONS[name] for name in names)


def photographs(
    paths: Iterable[Path | str] | Path | str,
    scale: int = 1,
    canvas: int | None = None,
    recipe: Recipe | None = None,
) -> FilesSource:
    """Returns a source of photographs without reference: those of a folder, or files.

    Args:
        paths: The folder or the files.
        scale: Side of the result divided by the side of the photograph.
        canvas: Side of square crops, in pixels of the result; None for whole images.
        recipe: Degradations of all photographs; None if they are not known.

    Raises:
        SampleError: If there are no photographs, or an argument cannot be used.
    """
    if isinstance(paths, str | Path):
        name, paths = Path(paths).resolve().name, list_images(paths)
    else:
        name = "photographs"
    entries = [FileEntry(Path(path), None, recipe or (), recipe is not None) for path in paths]
    return FilesSource(entries, name, canvas, scale)
