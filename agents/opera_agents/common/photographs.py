"""Training data of the agents and the critic: clean photographs with zero to three degradations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

import cv2
import numpy as np

from opera_agents.common.folders import is_real, plain_folders
from opera_env.data import RealSource
from opera_env.data.images import list_images, read_image, write_image
from opera_env.data.read import read_size
from opera_env.data.sources import SyntheticSource
from opera_env.degradations import (
    DegradationType,
    Recipe,
    benchmark_recipes,
    merge_degradations,
    training_recipes,
)
from opera_env.errors import SampleError
from opera_env.leftovers import remove_leftovers
from opera_env.runs import folder_name

ENLARGE_EVERY = 4
"""Every fourth photograph is also used as an enlarged copy."""


def training_source(
    images: Sequence[Path],
    canvas: int = 128,
    enlarged_dir: Path | None = None,
    clean_weight: float = 1.0,
    recipes: Sequence[Recipe] | None = None,
    degradation_count_weights: tuple[float, float, float] = (1, 3, 5),
    degradations: Iterable[DegradationType] = (),
    benchmark_fraction: float = 0.0,
) -> SyntheticSource:
    """Returns a source of training samples.

    Args:
        images: Folders of clean photographs, or of photographs with real damage as real:FOLDER, whose
            degradations and weights are those of :class:`opera_env.data.RealSource`. They are drawn in
            proportion to their numbers of photographs. A folder
            with a photograph that is smaller than the crops is not used; :func:`check_photographs` says so.
        canvas: Side of the crops in pixels.
        enlarged_dir: Folder for enlarged copies of some photographs; None uses no enlarged copies.
        clean_weight: Relative frequency of samples without degradations.
        recipes: Recipes of the other samples; by default all plausible orders of up to three degradations,
            or the rule of real damage.
        degradation_count_weights: Relative frequencies of samples with one, two and three degradations; by
            default those of the paper.
        degradations: Custom degradations beside the built-in ones.
        benchmark_fraction: Fraction of the samples with two or three degradations that have one of the
            benchmark's combinations unless recipes are given, at most 0.95. The combinations are frequent
            there, and two of them are in an order that no plausible one has.
    """
    custom_degradations = tuple(degradations)
    if recipes is None and not is_real(images):
        plausible = training_recipes(degradations=merge_degradations(custom_degradations).values())
        recipes = plausible if custom_degradations else add_benchmark_recipes(plausible, benchmark_fraction)
    folders = name_folders(images)
    used = {name: folder for name, folder in folders.items() if _smallest(folder)[0] >= canvas}
    photographs = list_photographs(used)
    if enlarged_dir is not None:
        photographs += enlarge_photographs(used, enlarged_dir)
    if is_real(images):
        return real_source(photographs, folders, canvas, recipes)
    assert recipes is not None
    weights = {0: clean_weight, **dict(enumerate(degradation_count_weights, start=1))}
    return photographs_source(photographs, folders, canvas, (*recipes, ()), weights, custom_degradations)


def add_benchmark_recipes(recipes: Sequence[Recipe], fraction: float) -> tuple[Recipe, ...]:
    """Adds the benchmark's combinations to recipes, repeated until they are a given fraction.

    Args:
        recipes: Different recipes.
        fraction: About this fraction of the result's recipes of two and of three degradations is the
            benchmark's, from 0 to 0.95.
    """
    result = list(recipes)
    for length in (2, 3):
        benchmark = [recipe for recipe in benchmark_recipes() if len(recipe) == length]
        others = sum(len(recipe) == length for recipe in recipes)
        result += benchmark * round(fraction / (1 - fraction) * others / len(benchmark))
    return tuple(result)


def photographs_source(
    photographs: Sequence[tuple[str, Path]],
    folders: Mapping[str, Path],
    canvas: int,
    recipes: Sequence[Recipe],
    weights: Mapping[int, float],
    degradations: Iterable[DegradationType] = (),
) -> SyntheticSource:
    """Returns a source of photographs of one or several folders.

    Args:
        photographs: The photographs by their names in specifications.
        folders: The folders by name, which give the source its own name.
        canvas: Side of the crops in pixels.
        recipes: The recipes.
        weights: Relative frequency of each number of degradations.
        degradations: Custom degradations beside the built-in ones.
    """
    names, paths = [name for name, _ in photographs], [path for _, path in photographs]
    return SyntheticSource(
        paths, _source_name(folders), canvas, recipes, weights, degradations=degradations, names=names
    )


def real_source(
    photographs: Sequence[tuple[str, Path]],
    folders: Mapping[str, Path],
    canvas: int,
    recipes: Sequence[Recipe] | None = None,
) -> RealSource:
    """Returns a source of real damage to photographs; the arguments are those of `photographs_source`.

    Args:
        photographs: The photographs by their names in specifications.
        folders: The folders by name, which give the source its own name.
        canvas: Side of the crops in pixels.
        recipes: The recipes; None for the rule of real damage.
    """
    names, paths = [name for name, _ in photographs], [path for _, path in photographs]
    return RealSource(paths, f"real:{_source_name(folders)}", canvas, recipes, names)


def _source_name(folders: Mapping[str, Path]) -> str:
    return "+".join(name or folder.resolve().name for name, folder in folders.items())


def name_folders(images: Sequence[Path]) -> dict[str, Path]:
    """Returns folders by the names under which specifications know them: "" for one alone.

    Raises:
        SampleError: If there is no folder, or different ones have the same name.
    """
    if not images:
        raise SampleError("expected a folder of photographs, found none: name one or several.")
    folders: dict[str, Path] = {}
    for folder in plain_folders(images):
        name = folder_name(folder) if len(images) > 1 else ""
        if folders.setdefault(name, folder).resolve() != folder.resolve():
            raise SampleError(
                f"{folders[name]} and {folder} are both known as {name}: rename one of them, so that "
                "samples say which one they come from."
            )
    return folders


def list_photographs(folders: Mapping[str, Path]) -> list[tuple[str, Path]]:
    """Returns the photographs of folders with their names in specifications.

    Args:
        folders: The folders, see :func:`name_folders`.
    """
    return [
        (_image_name(name, path), path) for name, folder in folders.items() for path in list_images(folder)
    ]


def enlarge_photographs(folders: Mapping[str, Path], enlarged_dir: Path) -> list[tuple[str, Path]]:
    """Writes enlarged copies of every fourth photograph of each folder; returns them as photographs.

    Args:
        folders: The folders, see :func:`name_folders`.
        enlarged_dir: Folder of the copies; those of several folders are in subfolders.
    """
    copies: list[tuple[str, Path]] = []
    for name, folder in folders.items():
        remove_leftovers(enlarged_dir / name)  # of a subfolder, which the lock of the run does not clear
        paths = write_enlarged(list_images(folder)[::ENLARGE_EVERY], enlarged_dir / name)
        copies += [(_image_name(f"{name}/enlarged" if name else "", path), path) for path in paths]
    return copies


def _image_name(folder: str, path: Path) -> str:
    return str(PurePosixPath(folder, path.name))


def check_photographs(images: Sequence[Path], sizes: Sequence[int], option: str = "--canvas") -> None:
    """Checks that crops can be taken from every folder, and crops of every size from at least one.

    The samples of a batch have one size, so that a folder is used for those sizes of crops alone that all
    its photographs have.

    Args:
        images: Folders of photographs.
        sizes: Sides of the crops in pixels.
        option: The option of the command line that sets the sizes, for the error.

    Raises:
        SampleError: If a folder has photographs that are smaller than all crops, or crops are larger than
            a photograph of every folder; or if a folder does not exist or holds no photograph.
    """
    smallest = [_smallest(folder) for folder in name_folders(images).values()]
    side, path = min(smallest)
    if side < min(sizes):
        raise SampleError(
            f"{path}: expected photographs with sides of at least {min(sizes)} pixels, as the crops have, "
            f"found {side}: remove the photograph, or choose a smaller {option}."
        )
    side, path = max(smallest)
    if side < max(sizes):
        raise SampleError(
            f"crops of {max(sizes)} pixels need a folder whose photographs are all at least as large, "
            f"found {side} in {path}: choose smaller {option}, or name other folders."
        )


def _smallest(folder: Path) -> tuple[int, Path]:
    """Returns the smallest side of the photographs of a folder in pixels, and the photograph."""
    return min((min(read_size(path)), path) for path in list_images(folder))


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
