"""From what a setting or a command line says to a source."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from opera_env.data.sources.protocol import Source
from opera_env.data.sources.synthetic import bundled, clean_folder
from opera_env.errors import SampleError
from opera_env.imports import import_attribute


def resolve_source(source: Source | Path | str | None, canvas: int | None = 128) -> Source:
    """Returns a source as it is, and opens the source that a name stands for.

    Args:
        source: A source; None or "bundled" for the photographs that come with scikit-image; a folder of
            clean photographs; or "module:attribute", a source or a function without arguments that
            returns one.
        canvas: Side of the square crops of clean photographs, in pixels; None for whole images. A source
            that is given, or imported, keeps its own.

    Raises:
        SampleError: If the object is no source, or the name stands for none.
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
        found = import_attribute(name)
    except (ImportError, AttributeError) as error:
        raise SampleError(f"source {name!r} cannot be imported: {error}") from error
    if callable(found) and not isinstance(found, Source):
        found = found()
    return _check(found, f"source {name!r}")


def _check(source: Any, label: str) -> Source:
    if not isinstance(source, Source):
        raise SampleError(
            f"{label}: expected an object with name, degradations, draw, list_specs, make and a length, as "
            f"in opera_env.data.Source, found {source!r}."
        )
    return source
