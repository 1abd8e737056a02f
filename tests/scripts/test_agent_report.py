"""The report on an agent pairs samples and counts plans correctly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from opera_env.errors import ResultsError, SettingError
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
        "r_q": reward,
        "metrics": metrics,
        "regret": regret,
        "error": None,
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


def test_plans_are_described() -> None:
    printed = "\n".join(agent_report.describe_plans(ROWS[2:], Toolbox.load("lite")))
    assert "2.5 for 2" in printed
    assert "repeat a tool: 50%" in printed
    assert "two tools for one degradation: 50%" in printed
    assert "with an unmatched tool: 50%" in printed
    assert "without a tool for one of the degradations: 50%" in printed
    assert "rain before haze 1, haze before rain 1, jpeg before noise 1" in printed


def test_an_agent_that_was_not_compared_is_refused(results: Path) -> None:
    with pytest.raises(SettingError, match="--agent nobody: expected one of matched, planner"):
        agent_report.report(agent_report.ReportConfig(results, agent="nobody"))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "found an empty file"),
        (b"\xff\xfe\x00", "line 1: expected a record of opera-env compare as JSON"),
        (b"[1, 2]\n", "line 1"),
        (b'{"agents": {}}\n', "line 1.*'reward'"),
        (json.dumps(ROWS[0]).encode()[:-20], "line 1"),
        (json.dumps(ROWS[0]).encode() + b"\nnull\n", "line 2"),
        (json.dumps(ROWS[0] | {"reward": "high"}).encode(), "line 1.*high"),
        (json.dumps(ROWS[0] | {"spec": 3}).encode(), "line 1"),
        (
            json.dumps(ROWS[0]).encode() + b"\n" + json.dumps(ROWS[3]).encode(),
            "others for matched and planner",
        ),
        (b"[" * 100_000, "line 1"),
    ],
    ids=range(10),
)
def test_a_file_without_records_is_named(results: Path, content: bytes, says: str) -> None:
    results.write_bytes(content)
    with pytest.raises(ResultsError, match=f"results.jsonl.*{says}"):
        agent_report.report(agent_report.ReportConfig(results))
