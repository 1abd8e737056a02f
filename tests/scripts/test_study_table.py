"""The table of several studies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from opera_env.cli.study import METRICS
from opera_env.console import Console
from opera_env.errors import SettingError
from scripts.study_table import StudyTableConfig, tables

EFFECT = {"factor": "repeating", "metric": "r_q", "median": 0.15, "fraction": 0.66}
CONSENSUS = {
    "plans": 3.0,
    "repeats": 0.5,
    "unmatched": 0.25,
    "baseline_repeats": 0.8,
    "baseline_unmatched": 0.84,
    "plans_above_matched": 38.0,
    "best_rank_unmatched": 30.0,
    "best_rank_matched": 40.0,
    "unmatched_better": 0.7,
    "rank_repeated": None,
    "rank_deduplicated": None,
}


def study(path: Path, mean: float) -> Path:
    effect = {**EFFECT, "mean": {"mean": mean, "low": mean - 0.06, "high": mean + 0.06}}
    path.write_text(json.dumps({"plans": 341, "effects": [effect], "consensus": CONSENSUS}))
    return path


def test_studies_stand_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = study(tmp_path / "a", 0.26), study(tmp_path / "b", -0.07)
    config = StudyTableConfig((f"lite={first}", f"other={second}"), metrics=("r_q",))
    Console(highlight=False, width=400).print(*tables(config))
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert lines[0] == "| effect in R_q, mean [95 %] / median / positive | lite | other |"
    assert "| repeating | +0.26 [0.20, 0.32] / 0.15 / 66 % | -0.07 [-0.13, -0.01] / 0.15 / 66 % |" in lines
    assert "| repeat a tool | 50.0 % | 50.0 % | 77.6 % |" in lines
    assert "| mean rank without the repeats | - | - | 65.3 |" in lines
    assert "| best rank of matched tools | 40.0 | 40.0 | 43.2 |" in lines


def test_all_metrics_of_a_study_have_a_table(tmp_path: Path) -> None:
    config = StudyTableConfig((f"lite={study(tmp_path / 'a', 0.1)}",))
    assert len(list(tables(config))) == len(METRICS) + 1


def test_a_study_without_a_title_is_an_error() -> None:
    with pytest.raises(SettingError, match=r"TITLE=FILE"):
        list(tables(StudyTableConfig(("lite.json",))))
