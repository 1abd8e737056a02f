"""The report on an agent pairs samples and counts plans correctly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from opera_env.tools import Toolbox
from scripts import agent_report


def row(
    agent: str, index: int, recipe: list[str], plan: list[str], reward: float, regret: float
) -> dict[str, Any]:
    spec = {"source": "val", "index": index, "recipe": recipe, "seed": 0, "crop": None}
    metrics = {"psnr_y": 20 + reward}
    return {
        "agent": agent,
        "spec": spec,
        "plan": plan,
        "reward": reward,
        "metrics": metrics,
        "regret": regret,
    }


ROWS = [
    row("matched", 0, ["rain", "haze"], ["unet.dehaze", "unet.derain"], 5.0, 2.0),
    row("matched", 1, ["haze", "noise"], ["unet.denoise", "unet.dehaze"], 6.0, 2.0),
    row("planner", 0, ["rain", "haze"], ["unet.derain", "unet.dehaze", "unet.derain"], 6.0, 1.0),
    row("planner", 1, ["haze", "noise"], ["unet.dejpeg", "nafnet.denoise_50"], 7.0, 1.0),
]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    path = tmp_path / "results.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in ROWS))
    return path


def test_differences_are_paired(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    agent_report.report(agent_report.ReportConfig(results))
    printed = capsys.readouterr().out
    assert "+1.00 [1.00, 1.00]" in printed and "closes +0.50 [0.50, 0.50]" in printed


def test_closed_gap_is_a_ratio_of_sums() -> None:
    planner = [dict(ROWS[2], reward=5.5), dict(ROWS[3], reward=9.0)]
    matched = [dict(ROWS[0], regret=1.0), dict(ROWS[1], regret=4.0)]
    assert agent_report.gap_closed(planner, matched).mean == pytest.approx(3.5 / 5)


def test_plan_statistics() -> None:
    printed = "\n".join(agent_report.plan_statistics(ROWS[2:], Toolbox.load("lite")))
    assert "2.5 for 2" in printed
    assert "repeat a tool: 50%" in printed
    assert "two tools for one degradation: 50%" in printed
    assert "with an unmatched tool: 50%" in printed
    assert "without a tool for one of the degradations: 50%" in printed
    assert "rain before haze 1, haze before rain 1, jpeg before noise 1" in printed
