"""Finds the source that a setting or a command line names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from opera_env.data.sources.protocol import Source
from opera_env.data.sources.real import real_photographs
from opera_env.data.sources.synthetic import bundled, clean_folder
from opera_env.degradations import DegradationType, load_degradations, parse_recipes
from opera_env.errors import SampleError, wrap_errors
from opera_env.imports import import_attribute

REAL_PREFIX = "real:"
"""Beginning of the names of sources of photographs with real damage."""


def resolve_source(
    source: Source | Path | str | None,
    canvas: int | None = 128,
    recipes: str | Iterable[str | Sequence[str]] | None = None,
    degradations: str | Iterable[DegradationType] | None = None,
) -> Source:
    """Returns a source as it is, or the source of a name.

    Args:
        source: A source; None or "bundled" for the photographs that come with scikit-image; a folder of
            clean photographs; "real:FOLDER" or "real:bundled" for the same photographs with damage as
            cameras make it (:class:`opera_env.data.RealSource`); or "module:attribute", a source or a
            function without arguments that returns one.
        canvas: Side of the square crops of clean photographs, in pixels; None for whole images. It has no
            effect on a source that is passed as an object or imported.
        recipes: Recipes that clean photographs are degraded by, as
            :func:`opera_env.degradations.parse_recipes` reads them; None for all plausible orders of up to
            three degradations.
        degradations: Custom degradations of clean photographs: objects, or "module:attribute".

    Raises:
        SampleError: If the object is not a source, the name is not that of a source or a folder, or recipes
            or degradations are given for a source that has its own.
        UnknownDegradationError: If a recipe names an unknown degradation.
    """
    if isinstance(source, str) and is_real_name(source):
        return _resolve_real(source, canvas, recipes, degradations)
    is_name = isinstance(source, str) and bool(re.fullmatch(r"[\w.]+:[\w.]+", source))
    if source is None or (isinstance(source, str | Path) and not (is_name and not Path(source).exists())):
        chosen = None if recipes is None else parse_recipes(recipes)
        custom = load_degradations(degradations)
        if source is None or source == "bundled":
            return bundled(canvas, chosen, degradations=custom)
        return clean_folder(source, canvas, chosen, degradations=custom)
    if recipes is not None or degradations is not None:
        raise SampleError(
            f"source {source!r} has recipes and degradations of its own, found others as well: set them "
            "where the source is made, for example clean_folder(DIR, recipes=..., degradations=...)."
        )
    return _import_source(source) if isinstance(source, str) else _check(source, "source")


def is_real_name(source: str) -> bool:
    """Returns whether a name is "real:FOLDER" or "real:bundled", and not that of an existing folder."""
    return source.startswith(REAL_PREFIX) and not Path(source).exists()


def _resolve_real(
    source: str,
    canvas: int | None,
    recipes: str | Iterable[str | Sequence[str]] | None,
    degradations: str | Iterable[DegradationType] | None,
) -> Source:
    folder = source.removeprefix(REAL_PREFIX)
    if degradations is not None:
        raise SampleError(
            f"source {source!r} has degradations of its own, found others as well: leave them out, or name "
            f"the folder alone, {folder}."
        )
    if not folder:
        raise SampleError(f"expected real:FOLDER or real:bundled, found {source!r}: name a folder.")
    chosen = None if recipes is None else parse_recipes(recipes)
    return real_photographs(None if folder == "bundled" else folder, canvas, chosen)


def _import_source(name: str) -> Source:
    try:
        source = import_attribute(name)
    except (ImportError, AttributeError) as error:
        raise SampleError(f"source {name!r} cannot be imported: {error}") from error
    if callable(source) and not isinstance(source, Source):
        with wrap_errors(SampleError, f"source {name!r}"):
            source = source()
    return _check(source, f"source {name!r}")


def _check(source: Any, label: str) -> Source:
    """Returns the source if it follows the protocol; ``label`` names it in the error message."""
    if not isinstance(source, Source):
        raise SampleError(
            f"{label}: expected an object with name, degradations, draw, list_specs, make and a length, as "
            f"in opera_env.data.Source, found {source!r}."
        )
    return source
