"""The protocol of a source of samples, and the cache of images and the crops that sources share."""

from __future__ import annotations

import reprlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from opera_env.data.images import read_image
from opera_env.data.sources.content import image_sha256
from opera_env.degradations import Recipe
from opera_env.errors import SampleError, wrap_errors
from opera_env.types import Canvas, Sample, SampleSpec

Crop: TypeAlias = tuple[int, int, int, int]
"""Top, left, height and width, in pixels."""


@runtime_checkable
class Source(Protocol):
    """Draws specifications and makes the samples that they describe.

    ``make`` is a pure function of the specification, on any worker. A source whose images can change gives
    its specifications ``image`` and ``sha256``, and refuses to make a sample of other content.

    Attributes:
        name: Name of the source in its specifications.
    """

    name: str

    @property
    def degradations(self) -> tuple[str, ...]:
        """Labels that samples may have, in the order in which degradations are applied."""
        ...

    def __len__(self) -> int:
        """Returns the number of images."""
        ...

    def draw(self, rng: Generator) -> SampleSpec:
        """Draws a specification; ``rng`` is the only source of randomness."""
        ...

    def list_specs(self, count: int, recipes: Sequence[Recipe] | None, rng: Generator) -> list[SampleSpec]:
        """Lists specifications for an evaluation: images and recipes in turn.

        Args:
            count: Number of specifications.
            recipes: The recipes to take in turn; None takes those of the source.
            rng: The only source of randomness.
        """
        ...

    def make(self, spec: SampleSpec) -> Sample:
        """Makes the sample.

        Raises:
            SampleError: If the specification is of another source or of other content, or cannot be met.
        """
        ...


def list_samples(
    source: Source, count: int, recipes: Sequence[Recipe] | None, rng: Generator
) -> Iterator[Sample]:
    """Makes the samples of an evaluation one by one, and checks what the source returns.

    Args:
        source: The source.
        count: Number of samples.
        recipes: The recipes to take in turn; None takes those of the source.
        rng: The only source of randomness.

    Raises:
        SampleError: If the source raises, or returns anything but specifications and samples.
    """
    label = f"source {source.name!r}"
    with wrap_errors(SampleError, f"{label}: list_specs(count, recipes, rng)"):
        specs = list(source.list_specs(count, recipes, rng))
    if len(specs) != count or not all(isinstance(spec, SampleSpec) for spec in specs):
        raise SampleError(
            f"{label}: expected list_specs(count, recipes, rng) to return {count} objects of "
            f"opera_env.types.SampleSpec, found {len(specs)}: {reprlib.repr(specs)}."
        )
    for spec in specs:
        with wrap_errors(SampleError, f"{label}: make(spec)"):
            sample = source.make(spec)
        if not isinstance(sample, Sample):
            raise SampleError(
                f"{label}: expected make(spec) to return an opera_env.types.Sample, found "
                f"{reprlib.repr(sample)}."
            )
        yield sample


class ImageCache:
    """Reads image files by path and keeps the most recently used ones in memory.

    Args:
        paths: The files.
        max_bytes: Largest memory for images, in bytes; one image is kept in any case.
    """

    def __init__(self, paths: Sequence[Path], max_bytes: int = 512 * 2**20) -> None:
        self.paths = tuple(paths)
        self._max_bytes = max_bytes
        self._cached: OrderedDict[Path, NDArray[np.uint8]] = OrderedDict()
        self._hashes: dict[Path, str] = {}
        self._bytes = 0

    def __getstate__(self) -> dict[str, Any]:
        """A copy starts with no images; a process pool pickles while this one may be reading."""
        return {**vars(self), "_cached": OrderedDict(), "_hashes": {}, "_bytes": 0}

    def __getitem__(self, path: Path) -> NDArray[np.uint8]:
        if path not in self._cached:
            image = self._cached[path] = read_image(path)
            self._bytes += image.nbytes
            while self._bytes > self._max_bytes and len(self._cached) > 1:
                oldest, evicted = self._cached.popitem(last=False)
                self._bytes -= evicted.nbytes
                self._hashes.pop(oldest, None)  # the file may have changed when it is read again
        self._cached.move_to_end(path)
        return self._cached[path]

    def sha256(self, path: Path) -> str:
        """Returns the digest of the pixels of an image, which is computed once for each time it is read."""
        image = self[path]
        if path not in self._hashes:
            self._hashes[path] = image_sha256(image)
        return self._hashes[path]


def random_crop(size: Canvas, side: int | None, multiple: int, rng: Generator) -> Crop | None:
    """Draws a square crop, smaller where the image is smaller.

    Args:
        size: (H, W) of the image.
        side: Side of the crop in pixels; None for the whole image.
        multiple: The position and the sides are multiples of this number of pixels.
        rng: The only source of randomness.

    Returns:
        The crop; None for the whole image.
    """
    if side is None:
        return None
    height, width = (min(side, length) // multiple * multiple for length in size)
    top = rng.integers((size[0] - height) // multiple + 1) * multiple
    left = rng.integers((size[1] - width) // multiple + 1) * multiple
    return int(top), int(left), int(height), int(width)


def crop_image(image: NDArray[np.uint8], crop: Crop | None, spec: SampleSpec) -> NDArray[np.uint8]:
    """Crops an image.

    Args:
        image: uint8 (H, W, 3).
        crop: Top, left, height and width in pixels; None for the whole image.
        spec: The specification, for the error message.

    Raises:
        SampleError: If the crop is empty or not inside the image.
    """
    if crop is None:
        return image
    top, left, height, width = crop
    inside = top >= 0 and left >= 0 and top + height <= image.shape[0] and left + width <= image.shape[1]
    if not inside or height <= 0 or width <= 0:
        raise SampleError(f"the crop {crop} lies outside an image of {image.shape[:2]}: {spec}.")
    return np.ascontiguousarray(image[top : top + height, left : left + width])
