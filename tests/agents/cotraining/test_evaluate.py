"""Toolboxes are compared on the same photographs, with what they cost alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from opera_agents.cotraining.evaluate import EvaluateConfig, evaluate
from opera_env.errors import AgentError
from opera_env.tools import Toolbox


@pytest.fixture(scope="module")
def weaker(small_toolbox: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small toolbox, its networks shaken."""
    toolbox = Toolbox.load(small_toolbox)
    torch.manual_seed(0)
    with torch.no_grad():
        for tool in toolbox:
            for parameter in tool.module.parameters() if tool.module else ():
                parameter.mul_(1 + 0.3 * torch.randn_like(parameter))
    folder = tmp_path_factory.mktemp("weaker")
    toolbox.save(folder)
    return folder


def _config(photos: Path, *toolboxes: Path, **settings: object) -> EvaluateConfig:
    small = {"n": 6, "single": 2, "canvas": 64, "threads": 1, "device": "cpu"}
    names = tuple(str(folder) for folder in toolboxes)
    return EvaluateConfig(photos, names, ("fixed_order",), **(small | settings))  # type: ignore[arg-type]


@pytest.mark.needs_weights("lpips")
def test_a_worse_toolbox_is_seen_to_be_worse(
    photos: Path, small_toolbox: Path, weaker: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = _config(photos, small_toolbox, weaker, json=tmp_path / "out.json")
    figures = evaluate(config)
    first, second = figures["groups"].values()
    assert set(first) == {"A", "B", "C", "all"}
    assert first["all"]["psnr_y"]["more"] == 0
    gain = second["all"]["psnr_y"]
    assert gain["low"] <= gain["more"] <= gain["high"] < 0
    mean = second["all"]["psnr_y"]["mean"] - first["all"]["psnr_y"]["mean"]
    assert second["all"]["psnr_y"]["more"] == pytest.approx(mean)
    assert second["all"]["tools"]["mean"] == first["all"]["tools"]["mean"]
    alone = figures["alone"]
    assert alone[str(weaker)]["clean_psnr"] < alone[str(small_toolbox)]["clean_psnr"]
    assert set(alone[str(weaker)]["tools"]) == {"unet.denoise", "unet.dejpeg"}
    assert json.loads((tmp_path / "out.json").read_text()) == json.loads(json.dumps(figures))
    assert "own damage" in capsys.readouterr().out


def test_an_agent_for_each_toolbox_or_one_for_all(photos: Path, small_toolbox: Path) -> None:
    config = replace(_config(photos, small_toolbox), agents=("matched", "planner"))
    with pytest.raises(AgentError, match="one for each of 1 toolboxes, found 2"):
        evaluate(config)
