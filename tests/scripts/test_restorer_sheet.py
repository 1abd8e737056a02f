"""The sheet of several restorers: a row for each photograph, a column for each restorer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from opera_env.errors import SettingError
from scripts.restorer_sheet import RestorerSheet, draw


def test_a_row_for_each_photograph_and_a_column_for_each_restorer(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for name in ("a", "b"):
        Image.fromarray(rng.integers(0, 120, (40, 60, 3), np.uint8)).save(
            tmp_path / "photos" / f"{name}.png"
        )
    config = RestorerSheet(
        tmp_path / "photos",
        restorers=("single:brighten.constant_shift@lite",),
        classical=("classical.clahe", "classical.unsharp_mask"),
        out=tmp_path / "sheet.png",
        width=60,
    )
    draw(config)
    sheet = np.asarray(Image.open(tmp_path / "sheet.png").convert("RGB")).astype(int)
    assert sheet.shape == (2 * (40 + 38), 4 * 64, 3)
    before, shifted, clahe, unsharp = (sheet[32:72, 64 * column : 64 * column + 60] for column in range(4))
    assert np.abs(shifted - before - 40).max() <= 1
    assert all(np.abs(other - before).mean() > 1 for other in (clahe, unsharp))


def test_a_restorer_names_its_toolbox(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="AGENT@TOOLBOX"):
        RestorerSheet(tmp_path, restorers=("planner",))
