"""The scripts that make the figures of the docs run, on small input, and count right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from torch.utils.tensorboard import SummaryWriter

from opera_env.tools import Toolbox
from scripts import agent_curves, agent_report, vlm_curves


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
    path.write_text("".join(json.dumps(one) + "\n" for one in ROWS))
    return path


def test_differences_are_paired(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    agent_report.report(agent_report.ReportConfig(results))
    said = capsys.readouterr().out
    assert "+1.00 (+1.00..+1.00)" in said and "closes +0.50 (+0.50..+0.50)" in said


def test_the_gap_is_weighed_by_its_size() -> None:
    planner = [dict(ROWS[2], reward=5.5), dict(ROWS[3], reward=9.0)]
    matched = [dict(ROWS[0], regret=1.0), dict(ROWS[1], regret=4.0)]
    assert agent_report.gap_closed(planner, matched).mean == pytest.approx(3.5 / 5)


def test_behaviour_is_counted() -> None:
    said = "\n".join(agent_report.plan_statistics(ROWS[2:], Toolbox.load("lite")))
    assert "2.5 for 2" in said
    assert "repeat a tool: 50%" in said
    assert "two tools for one damage: 50%" in said
    assert "damage that is not there: 50%" in said
    assert "leave a damage to itself: 50%" in said
    assert "rain before haze 1, haze before rain 1, jpeg before noise 1" in said


def test_curves_are_drawn_over_what_was_spent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (0, 1):
        with SummaryWriter(str(tmp_path / f"planner-{seed}")) as writer:
            for step in range(1, 5):
                for axis in agent_curves.BUDGET_TAGS:
                    writer.add_scalar(axis, 100 * step, step)
            for step in (0, 2, 4):
                writer.add_scalar("val/reward", 5 + step + seed, step)
    out = tmp_path / "curves.png"
    agent_curves.draw(agent_curves.Curves((f"planner={tmp_path}/planner-*",), out, ("matched=6",)))
    assert out.stat().st_size > 10_000
    assert "5.000 to 9.000 after 400 images scored" in capsys.readouterr().out


def test_rewards_are_drawn_across_an_interruption(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for part, steps in (("first", range(1, 7)), ("second", range(5, 11))):
        with SummaryWriter(str(tmp_path / "run" / "runs" / part)) as writer:
            for step in steps:
                for tag in vlm_curves.PANELS:
                    writer.add_scalar(tag, step, step)
    vlm_curves.draw(vlm_curves.Curves((f"tiny={tmp_path / 'run'}",), tmp_path / "curves.png", over=4))
    assert (tmp_path / "curves.png").stat().st_size > 1000
    assert "tiny, R_q of drawn answers: 2.500 to 8.500 in 10 steps" in capsys.readouterr().out
