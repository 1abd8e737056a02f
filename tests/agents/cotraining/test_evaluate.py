"""Toolboxes are compared on the same samples, under plans and tool by tool."""

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
    """The small toolbox with noise added to its weights."""
    toolbox = Toolbox.load(small_toolbox)
    torch.manual_seed(0)
    with torch.no_grad():
        for tool in toolbox:
            for parameter in tool.module.parameters() if tool.module else ():
                parameter.mul_(1 + 0.6 * torch.randn_like(parameter))
    folder = tmp_path_factory.mktemp("weaker")
    toolbox.save(folder)
    return folder


def _config(photos: Path, *toolboxes: Path, **settings: object) -> EvaluateConfig:
    small = {"n": 6, "tool_photographs": 2, "canvas": 64, "threads": 1, "device": "cpu"}
    names = tuple(str(folder) for folder in toolboxes)
    return EvaluateConfig(photos, names, ("fixed_order",), **(small | settings))  # type: ignore[arg-type]


@pytest.mark.needs_weights("lpips")
def test_worse_toolbox_has_worse_results(
    photos: Path,
    small_toolbox: Path,
    weaker: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = _config(photos, small_toolbox, weaker, json=tmp_path / "out.json")
    monkeypatch.setenv("COLUMNS", "60")
    results = evaluate(config)
    first, second = results["groups"].values()
    assert set(first) == {"A", "B", "C", "all"}
    assert first["all"]["psnr_y"]["difference"] == 0
    difference = second["all"]["psnr_y"]
    assert difference["low"] <= difference["difference"] <= difference["high"] < 0
    mean = second["all"]["psnr_y"]["mean"] - first["all"]["psnr_y"]["mean"]
    assert second["all"]["psnr_y"]["difference"] == pytest.approx(mean)
    assert second["all"]["tools"]["mean"] == first["all"]["tools"]["mean"]
    single_tools = results["single_tools"]
    assert single_tools[str(weaker)]["clean_psnr"] < single_tools[str(small_toolbox)]["clean_psnr"]
    assert set(single_tools[str(weaker)]["tools"]) == {"unet.denoise", "unet.dejpeg"}
    assert json.loads((tmp_path / "out.json").read_text()) == json.loads(json.dumps(results))
    printed = capsys.readouterr().out
    assert "each network alone, PSNR in dB" in printed and "…" not in printed


def test_agents_are_one_for_all_toolboxes_or_one_for_each(photos: Path, small_toolbox: Path) -> None:
    config = replace(_config(photos, small_toolbox), agents=("matched", "planner"))
    with pytest.raises(AgentError, match="one for each of 1 toolboxes, found 2"):
        evaluate(config)


@pytest.mark.needs_weights("lpips")
def test_tools_for_own_degradations_are_compared(photos: Path, small_toolbox: Path, tmp_path: Path) -> None:
    toolbox = Toolbox.load(small_toolbox).subset(["unet.denoise"])
    tool = replace(
        toolbox["unet.denoise"], name="unet.despeckle", degradations=frozenset({"salt_and_pepper"})
    )
    Toolbox([tool]).save(tmp_path / "own")
    config = _config(photos, tmp_path / "own", degradations="tests.degradations.own:OWN_DEGRADATIONS")
    results = evaluate(config)
    (groups,) = results["groups"].values()
    assert groups["all"]["psnr_y"]["mean"] > 0
    (tools,) = results["single_tools"].values()
    assert set(tools["tools"]) == {"unet.despeckle"}
