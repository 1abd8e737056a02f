"""The scripts that draw learning curves read the right values and write an image."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch.utils.tensorboard import SummaryWriter

from scripts import agent_curves, vlm_curves


def test_agent_curves_use_the_budget_at_the_evaluation_steps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in (0, 1):
        with SummaryWriter(str(tmp_path / f"planner-{seed}")) as writer:
            for step in range(1, 5):
                for tag in agent_curves.BUDGET_TAGS:
                    writer.add_scalar(tag, 100 * step, step)
            for step in (0, 2, 4):
                writer.add_scalar("val/reward", 5 + step + seed, step)
    out = tmp_path / "curves.png"
    agent_curves.draw(
        agent_curves.AgentCurvesConfig((f"planner={tmp_path}/planner-*",), out, ("matched=6",))
    )
    assert out.stat().st_size > 10_000
    assert "5.000 to 9.000 after 400 images scored" in capsys.readouterr().out


def test_vlm_curves_join_the_files_of_a_resumed_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for part, steps in (("first", range(1, 7)), ("second", range(5, 11))):
        with SummaryWriter(str(tmp_path / "run" / "runs" / part)) as writer:
            for step in steps:
                for tag in vlm_curves.PANELS:
                    writer.add_scalar(tag, step, step)
    config = vlm_curves.VLMCurvesConfig((f"tiny={tmp_path / 'run'}",), tmp_path / "curves.png", window=4)
    vlm_curves.draw(config)
    assert (tmp_path / "curves.png").stat().st_size > 1000
    assert "tiny, R_q of sampled answers: 2.500 to 8.500 in 10 steps" in capsys.readouterr().out


def test_a_quantity_that_a_run_lacks_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, tag in (
        ("words", "train/answers/reasoning_words"),
        ("turns", "train/rewards/tools_run/mean"),
    ):
        with SummaryWriter(str(tmp_path / name / "runs" / "first")) as writer:
            writer.add_scalar(tag, 3.0, 1)
    runs = (f"words={tmp_path / 'words'}", f"turns={tmp_path / 'turns'}")
    vlm_curves.draw(vlm_curves.VLMCurvesConfig(runs, tmp_path / "curves.png"))
    assert capsys.readouterr().out.splitlines() == [
        "words, words of reasoning: 3.000 to 3.000 in 1 steps",
        "turns, tools run in an episode: 3.000 to 3.000 in 1 steps",
    ]
