"""``opera-env tools train`` and ``pack``: the way from photographs to a toolbox."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest
import torch

from opera_env.cli import main
from opera_env.tool_training import lite_tools
from opera_env.tool_training.lite_tools import ToolSpec
from tests.cli.conftest import one_error

Printed = pytest.CaptureFixture[str]

TINY = ToolSpec(
    "tiny.denoise",
    "noise",
    options={"widths": (4, 8), "unshuffle": 2},
    steps=2,
    batch_size=2,
    patch_size=32,
    margin=8,
)
SHIFT = ToolSpec("tiny.shift", "low_light", net="shift", options={"levels": 20.0})


@pytest.fixture
def tiny_table(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two tiny tools instead of the lite toolbox's."""
    monkeypatch.setattr(lite_tools, "LITE_TOOLS", (TINY, SHIFT))
    threads = torch.get_num_threads(), cv2.getNumThreads()
    yield
    torch.set_num_threads(threads[0])
    cv2.setNumThreads(threads[1])


def training_words(tool: str, photographs: Path, runs: Path) -> list[str]:
    folders = ["--images", str(photographs), "--val", str(photographs), "--out", str(runs)]
    return ["tools", "train", tool, *folders, "--val-side", "64", "--warmup-steps", "1", "--device", "cpu"]


def test_train_then_pack_then_list(
    tiny_table: None, photographs: Path, tmp_path: Path, capsys: Printed
) -> None:
    runs, folder = tmp_path / "runs", tmp_path / "box"
    args = ["tools", "pack", "--runs", str(runs), "--out", str(folder)]
    assert main(args) == 1
    line = one_error(capsys)
    assert "opera-env tools train tiny.denoise" in line
    assert not folder.exists()

    assert main(training_words("tiny.denoise", photographs, runs)) == 0
    assert "tiny.denoise 2/2" in capsys.readouterr().out
    assert main(args) == 0
    assert "2 tools" in capsys.readouterr().out

    assert main(["tools", "list", "--toolbox", str(folder), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    denoise, shift = summary["tools"]
    assert (denoise["name"], shift["name"]) == ("tiny.denoise", "tiny.shift")
    assert (denoise["degradations"], shift["degradations"]) == (["noise"], ["low_light"])
    assert denoise["multiple"] == 4
    assert denoise["training"]["steps"] == 2
    assert denoise["training"]["command"].startswith("opera-env tools train tiny.denoise --images data/val")
    assert shift["training"] == {}

    assert main(["tools", "card", "--toolbox", str(folder)]) == 1
    assert "opera-env tools measure" in one_error(capsys)


def test_the_recorded_command_can_be_run(
    tiny_table: None, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    """From beside the folder of photographs, as the noted names are relative to it."""
    assert main(training_words("tiny.denoise", photographs, tmp_path / "runs")) == 0
    record = json.loads((tmp_path / "runs" / "tiny.denoise" / "training.json").read_text())
    monkeypatch.chdir(tmp_path)
    args = record["command"].split()
    assert args[0] == "opera-env"
    assert main([*args[1:], "--val-side", "64", "--warmup-steps", "1", "--out", "again"]) == 0
    again = json.loads(Path("again/tiny.denoise/training.json").read_text())
    assert again["psnr_gain"] == record["psnr_gain"]


def test_a_folder_without_a_parent_in_its_name(
    tiny_table: None, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photographs.parent)
    assert main(training_words("tiny.denoise", Path("val"), tmp_path / "runs")) == 0
    record = json.loads((tmp_path / "runs" / "tiny.denoise" / "training.json").read_text())
    assert record["data"] == record["validation"] == "data/val"


@pytest.mark.parametrize(("tool", "says"), [("tiny.sharpen", "tiny.denoise"), ("tiny.shift", "no weights")])
def test_invalid_training_options_are_refused(
    tool: str, says: str, tiny_table: None, photographs: Path, tmp_path: Path, capsys: Printed
) -> None:
    assert main(training_words(tool, photographs, tmp_path / "runs")) == 1
    line = one_error(capsys)
    assert tool in line
    assert says in line
    assert not (tmp_path / "runs").exists()
