"""Sources read image files of all supported formats and modes, and name a file that is damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from opera_env.data import photographs
from opera_env.errors import ImageFileError
from opera_env.types import SampleSpec

Draw = Callable[[int, int, int], Image.Image]


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "webp"])
def test_image_files_of_all_formats_are_read(tmp_path: Path, make_photograph: Draw, suffix: str) -> None:
    make_photograph(20, 30, 0).save(tmp_path / f"a.{suffix}")
    (tmp_path / "notes.txt").write_text("not an image")
    assert photographs(tmp_path).make(SampleSpec(tmp_path.name, 0)).lq.shape == (3, 20, 30)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "CMYK"])
def test_images_of_other_modes_become_rgb(tmp_path: Path, make_photograph: Draw, mode: str) -> None:
    suffix = "tif" if mode == "CMYK" else "png"
    make_photograph(20, 30, 0).convert(mode).save(tmp_path / f"a.{suffix}")
    assert photographs(tmp_path).make(SampleSpec(tmp_path.name, 0)).lq.shape == (3, 20, 30)


def test_a_damaged_file_is_named(tmp_path: Path, make_photograph: Draw) -> None:
    make_photograph(64, 64, 0).save(tmp_path / "whole.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "whole.png").read_bytes()[:2000])
    source = photographs([tmp_path / "half.png"])
    with pytest.raises(ImageFileError, match=r"half\.png"):
        source.make(SampleSpec("photographs", 0))
