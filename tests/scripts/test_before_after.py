"""The sheet of photographs before and after has one column for each photograph."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from scripts import before_after


def test_sheet_has_the_photograph_above_its_result(tmp_path: Path) -> None:
    (tmp_path / "restored").mkdir()
    for name, before, after in (("a.png", "red", "lime"), ("b.png", "blue", "yellow")):
        Image.new("RGB", (90, 50), before).save(tmp_path / name)
        Image.new("RGB", (90, 50), after).save(tmp_path / "restored" / name)
    photographs, out = (tmp_path / "a.png", tmp_path / "b.png"), tmp_path / "sheet.png"
    config = before_after.BeforeAfterConfig(photographs, tmp_path / "restored", out, width=80, height=40)
    before_after.main(config)
    with Image.open(out) as sheet:
        assert sheet.size == (166, 86)
        assert [sheet.getpixel(place) for place in ((70, 30), (156, 30), (70, 80), (156, 80))] == [
            (255, 0, 0),
            (0, 0, 255),
            (0, 255, 0),
            (255, 255, 0),
        ]


def test_missing_result_is_an_error(tmp_path: Path) -> None:
    Image.new("RGB", (90, 50)).save(tmp_path / "a.png")
    config = before_after.BeforeAfterConfig((tmp_path / "a.png",), tmp_path / "restored")
    with pytest.raises(FileNotFoundError, match=r"a\.png"):
        before_after.main(config)
