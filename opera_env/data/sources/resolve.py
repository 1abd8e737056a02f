"""Finds the source that a setting or a command line names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from opera_env.data.sources.protocol import Source
from opera_env.data.sources.synthetic import bundled, clean_folder
from opera_env.errors import SampleError, wrap_errors
from opera_env.imports import import_attribute


def resolve_source(source: Source | Path | str | None, canvas: int | None = 128) -> Source:
    """Returns a source as it is, or the source of a name.

    Args:
        source: A source; None or "bundled" for the photographs that come with scikit-image; a folder of
            clean photographs; or "module:attribute", a source or a function without arguments that
            returns one.
        canvas: Side of the square crops of clean photographs, in pixels; None for whole images. It has no
            effect on a source that is passed as an object or imported.

    Raises:
        SampleError: If the object is not a source, or the name is not that of a source or a folder.
    """
    if source is None or source == "bundled":
        return bundled(canvas)
    if isinstance(source, str) and re.fullmatch(r"[\w.]+:[\w.]+", source) and not Path(source).exists():
        return _import_source(source)
    if isinstance(source, str | Path):
        return clean_folder(source, canvas)
    return _check(source, "source")


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
