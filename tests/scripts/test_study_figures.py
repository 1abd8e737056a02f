"""The figure of several studies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from opera_env.errors import SettingError
from scripts.study_figures import FACTORS, StudyFiguresConfig, draw
from tests.scripts.test_study_table import CONSENSUS


def study(path: Path, mean: float) -> Path:
    interval = {"mean": mean, "low": mean - 0.05, "high": mean + 0.05}
    effects = [
        {"factor": factor, "metric": "r_q", "mean": interval, "median": mean, "fraction": 1.0}
        for factor in FACTORS
    ]
    path.write_text(json.dumps({"plans": 341, "effects": effects, "consensus": CONSENSUS}))
    return path


def test_a_figure_of_two_studies_is_written(tmp_path: Path) -> None:
    first, second = study(tmp_path / "a", 0.3), study(tmp_path / "b", -0.1)
    out = tmp_path / "study.png"
    draw(StudyFiguresConfig((f"lite={first}", f"other={second}"), out=out))
    with Image.open(out) as image:
        assert image.size == (1300, 494)
        assert len(set(image.convert("RGB").get_flattened_data())) > 100


def test_a_study_without_a_title_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="TITLE=FILE"):
        draw(StudyFiguresConfig(("lite.json",), out=tmp_path / "study.png"))
    assert not list(tmp_path.iterdir())
