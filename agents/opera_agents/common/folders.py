"""Folders of photographs as settings name them: FOLDER, or real:FOLDER for damage as cameras make it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from opera_env.data import clean_folder, real_photographs
from opera_env.data.sources.resolve import REAL_PREFIX, is_real_name
from opera_env.degradations import (
    DegradationType,
    benchmark_recipes,
    load_degradations,
    merge_degradations,
)
from opera_env.degradations.real import REAL_DEGRADATIONS, REAL_LABELS
from opera_env.errors import SampleError
from opera_env.runs import folder_name, identify_images
from opera_env.runs.identity import Identity
from opera_env.types import Sample


def is_real(images: Sequence[Path]) -> bool:
    """Returns whether folders are named as those of photographs with real damage.

    Raises:
        SampleError: If some are and others are not.
    """
    found = {is_real_name(str(folder)) for folder in images}
    if len(found) > 1:
        raise SampleError(
            f"expected all folders as {REAL_PREFIX}FOLDER or none, found {', '.join(map(str, images))}: "
            "name them alike, since the samples of a training follow one rule."
        )
    return True in found


def plain_folders(images: Sequence[Path]) -> list[Path]:
    """Returns folders without the prefix of real damage."""
    prefix = REAL_PREFIX if is_real(images) else ""
    return [Path(str(folder).removeprefix(prefix)) for folder in images]


def photographs_name(*images: Path) -> str:
    """Returns the last two parts of the path of each folder, with the prefix of real damage."""
    name = folder_name(*plain_folders(images))
    return f"{REAL_PREFIX}{name}" if is_real(images) else name


def identify_photographs(*images: Path) -> Identity:
    """Returns the identity of folders by content; the same folder with real damage has another one.

    Raises:
        SampleError: If a folder does not exist or holds no image.
    """
    identity = identify_images(*plain_folders(images))
    prefix = REAL_PREFIX if is_real(images) else ""
    return {"name": photographs_name(*images), "content": prefix + identity["content"]}


def load_custom_degradations(images: Sequence[Path], name: str | None) -> tuple[DegradationType, ...]:
    """Imports the custom degradations of a training; none for photographs with real damage.

    Raises:
        SampleError: If they cannot be imported, or the photographs have degradations of their own.
    """
    if name is not None and is_real(images):
        raise SampleError(
            f"{REAL_PREFIX}FOLDER has degradations of its own, found --degradations {name} as well: leave "
            "it out, or name the folder alone."
        )
    return load_degradations(name)


def all_degradations(
    images: Sequence[Path], custom: Sequence[DegradationType] = ()
) -> Mapping[str, DegradationType]:
    """Returns the degradations of samples by name, in the order of the labels of a trained agent.

    Args:
        images: The folders.
        custom: Custom degradations beside the built-in ones.
    """
    if not is_real(images):
        return merge_degradations(custom)
    by_name = {degradation.name: degradation for degradation in REAL_DEGRADATIONS}
    return {label: by_name[label] for label in REAL_LABELS}


def validation_samples(
    folder: Path, canvas: int, count: int, degradations: Sequence[DegradationType] = ()
) -> list[Sample]:
    """Returns validation samples, the same for every run and step.

    Args:
        folder: Clean photographs, or real:FOLDER, whose recipes follow the rule of real photographs.
        canvas: Side of the crops in pixels.
        count: Number of samples.
        degradations: Custom degradations. With some, the recipes are all plausible orders of up to three
            degradations instead of those of the benchmark.
    """
    if is_real([folder]):
        source, recipes = real_photographs(plain_folders([folder])[0], canvas), None
    else:
        source = clean_folder(folder, canvas, degradations=degradations)
        recipes = None if degradations else benchmark_recipes()
    specs = source.list_specs(count, recipes, np.random.default_rng(0))
    return [source.make(spec) for spec in specs]


def check_validation(images: Sequence[Path], val: Path) -> None:
    """Checks that the photographs for validation are damaged as those for training are.

    Raises:
        SampleError: If only one of them has real damage.
    """
    if is_real(images) != is_real([val]):
        prefix = REAL_PREFIX if is_real(images) else ""
        raise SampleError(
            f"expected --val {prefix}FOLDER, as --images, found {val}: validate on the damage that is "
            "trained on."
        )
