"""The samples of ``opera-env compare``: sources, crops, and how many fit into the memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import psutil

from opera_env.cli.options.compare import Compare
from opera_env.console import Console
from opera_env.data import (
    FilesSource,
    Source,
    agenticir,
    bundled,
    list_samples,
    paired,
    resolve_source,
)
from opera_env.data.sources.resolve import is_real_name
from opera_env.degradations import Recipe, benchmark_recipes
from opera_env.errors import SettingError
from opera_env.types import Sample

DEFAULT_CANVAS = 128
"""Side of the crops of clean photographs, in pixels."""

_SURELY_FIT = 16
"""Number of samples for which the memory is not checked."""

_MEMORY_FRACTION = 0.5
"""Fraction of the free memory that samples may take; agents and tools need the rest."""


def make_samples(
    options: Compare, console: Console, progress: Callable[[int, int], None] = lambda done, total: None
) -> list[Sample]:
    """Makes the samples that the options name.

    Args:
        options: The options.
        console: Where it is said if there are fewer samples than asked for.
        progress: Called after each sample with the number of samples done and in all.

    Raises:
        SettingError: If so many samples do not fit into the memory.
        SampleError: If the source cannot make them.
    """
    source, recipes = _source(options)
    count = options.n
    if isinstance(source, FilesSource) and source.canvas is None and count > len(source):
        count = len(source)
        console.print(f"{count} samples, as there are {count} images; --canvas takes crops of them.")
    check_memory(source, count, recipes)
    samples: list[Sample] = []
    for sample in list_samples(source, count, recipes, np.random.default_rng(options.seed)):
        samples.append(sample)
        progress(len(samples), count)
    return samples


def canvas_of(options: Compare) -> int | None:
    """Returns the side of the crops; None where images are not cropped, or the source decides."""
    if (
        options.canvas is None
        and not options.pairs
        and not options.benchmark
        and not _has_own_source(options)
    ):
        return DEFAULT_CANVAS
    return options.canvas


def image_paths(options: Compare) -> list[str] | None:
    """Returns the folders or the source of the images, as they were named; None for the bundled ones."""
    paths = options.pairs or tuple(path for path in (options.images, options.benchmark) if path)
    return [str(path) for path in paths] or None


def _has_own_source(options: Compare) -> bool:
    return (
        options.images is not None
        and not Path(options.images).exists()
        and ":" in options.images
        and not is_real_name(options.images)
    )


def _source(options: Compare) -> tuple[Source, Sequence[Recipe] | None]:
    """Returns the source and its recipes; None for those of the source itself."""
    canvas = canvas_of(options)
    if options.pairs is not None:
        return paired(*options.pairs, canvas), None
    if options.benchmark is not None:
        return agenticir(options.benchmark, canvas), None
    if options.images is None:
        return bundled(canvas), benchmark_recipes()
    if is_real_name(str(options.images)):
        return resolve_source(options.images, canvas), None
    if not _has_own_source(options):
        return resolve_source(options.images, canvas), benchmark_recipes()
    if options.canvas is not None:
        raise SettingError("canvas", options.canvas, "no canvas beside a source of your own, which has one")
    return resolve_source(options.images), None


def check_memory(source: Source, count: int, recipes: Sequence[Recipe] | None) -> None:
    """Checks that samples fit into the memory that is free now, by the size of one of them.

    Args:
        source: The source.
        count: Number of samples.
        recipes: Their recipes; None for those of the source.

    Raises:
        SettingError: If they do not fit.
    """
    if count <= _SURELY_FIT:
        return
    sample = next(list_samples(source, 1, recipes, np.random.default_rng(0)))
    size = sum(image.nbytes for image in (sample.lq, sample.reference) if image is not None)
    free = psutil.virtual_memory().available
    if size * count > free * _MEMORY_FRACTION:
        most = int(free * _MEMORY_FRACTION) // size
        raise SettingError(
            "n", count, f"at most {most}, which fit into the {free / 1e9:.1f} GB of free memory"
        )
