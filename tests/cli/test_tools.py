"""``opera-env tools``: what a toolbox holds, for people and for programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from opera_env.cli import main
from opera_env.tools import Toolbox


@pytest.mark.parametrize("words", [[], ["list"], ["list", "--toolbox", "lite"]])
def test_the_table_names_every_tool_in_order(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tools", *words]) == 0
    printed = capsys.readouterr().out
    box = Toolbox.load("lite")
    first = [line.split()[0] for line in printed.splitlines() if line.strip()]
    assert [name for name in first if name in box.names] == list(box.names)
    assert box.fingerprint in printed
    for tool in box:
        line = next(line for line in printed.splitlines() if tool.name in line)
        assert all(degradation in line for degradation in tool.degradations)
        assert str(tool.multiple) in line.split()
    assert "…" not in printed


def test_json_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tools", "list", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    box = Toolbox.load("lite")
    assert summary["toolbox"] == "lite"
    assert (summary["signature"], summary["fingerprint"]) == (box.signature, box.fingerprint)
    assert [tool["name"] for tool in summary["tools"]] == list(box.names)
    enlarging = {tool["name"]: tool["scale"] for tool in summary["tools"] if tool["scale"] > 1}
    assert enlarging == {"unet.super_resolution": 4}
    denoise = summary["tools"][0]
    module = box["unet.denoise"].module
    assert module is not None
    assert denoise["parameters"] == sum(parameter.numel() for parameter in module.parameters())
    assert denoise["degradations"] == ["noise"]


def test_a_toolbox_from_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "box [mine]"
    Toolbox.load("lite").subset(["brighten.constant_shift", "unet.dehaze"]).save(folder)
    assert main(["tools", "list", "--toolbox", str(folder), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert [tool["name"] for tool in summary["tools"]] == ["brighten.constant_shift", "unet.dehaze"]
    assert [tool["looks_everywhere"] for tool in summary["tools"]] == [False, True]
    assert main(["tools", "list", "--toolbox", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert "+ all" in printed
    assert printed.startswith(f"{folder}, fingerprint ")


def test_no_such_toolbox(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tools", "list", "--toolbox", "nothing"]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: no toolbox 'nothing'")
    assert printed.err.count("\n") == 1
