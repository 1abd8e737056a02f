"""From names to sources."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from numpy.random import default_rng

from opera_env.data import (
    photographs,
    resolve_source,
)
from opera_env.errors import SampleError


def test_sources_are_resolved_by_name(tmp_path: Path, write_photographs: Callable[..., Path]) -> None:
    assert resolve_source(None).name == "bundled"
    assert resolve_source("bundled", canvas=64).make(  # type: ignore[attr-defined]
        resolve_source("bundled", canvas=64).draw(default_rng(0))
    ).canvas == (64, 64)
    write_photographs(tmp_path / "mine", (40, 52))
    assert resolve_source(str(tmp_path / "mine"), 16).name == "mine"
    source = photographs(tmp_path / "mine")
    assert resolve_source(source) is source
    with pytest.raises(SampleError, match="nowhere"):
        resolve_source("nowhere")


@pytest.mark.parametrize("source", [3, ["photo.png"], object()])
def test_an_object_that_is_no_source_is_refused(source: Any) -> None:
    with pytest.raises(SampleError, match="expected an object with name, degradations"):
        resolve_source(source)


def broken_source() -> None:
    raise OSError("no disk")


def test_a_function_that_raises_is_named() -> None:
    with pytest.raises(
        SampleError, match=r"source 'tests.data.sources.test_resolve:broken_source' raised OSError"
    ):
        resolve_source("tests.data.sources.test_resolve:broken_source")
