"""From names to sources."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from numpy.random import default_rng

from opera_env.data import (
    photographs,
    resolve_source,
)
from opera_env.data.images import write_image
from opera_env.errors import SampleError


def _write_photographs(folder: Path, coordinate_image: Any, *sizes: tuple[int, int]) -> Path:
    for number, size in enumerate(sizes):
        write_image(folder / f"{number}.png", coordinate_image(*size, seed=number))
    return folder


def test_opening_by_name(tmp_path: Path, coordinate_image: Any) -> None:
    assert resolve_source(None).name == "bundled"
    assert resolve_source("bundled", canvas=64).make(  # type: ignore[attr-defined]
        resolve_source("bundled", canvas=64).draw(default_rng(0))
    ).canvas == (64, 64)
    _write_photographs(tmp_path / "mine", coordinate_image, (40, 52))
    assert resolve_source(str(tmp_path / "mine"), 16).name == "mine"
    own = photographs(tmp_path / "mine")
    assert resolve_source(own) is own
    with pytest.raises(SampleError, match="nowhere"):
        resolve_source("nowhere")
