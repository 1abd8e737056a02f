"""A served tool whose process ends in the middle of a command: what is said, and nothing is lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from opera_env.cli import main
from opera_env.tools import Toolbox
from tests.served import served_by_command

pytestmark = pytest.mark.slow

AGENTS = "untouched,single:mine.shift,single:mine.served,greedy"

SERVER = ("tests.own_tools:Dies", "--device", "cpu", "--port")


def test_a_comparison_is_resumed_after_a_served_tool_has_died(
    photos: Path,
    tmp_path: Path,
    repository: Path,
    child_environment: dict[str, str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    environment = child_environment | {"PYTHONPATH": str(repository)}
    box, target = tmp_path / "box", tmp_path / "out.json"
    command = ["compare", "--images", str(photos), "--canvas", "64", "--n", "3"]
    command += ["--reward", "tests.own_rewards:BRIGHT"]  # as it needs no metric with a slow import
    command += ["--no-sheet", "--max-tools", "2", "--toolbox", str(box), "--trust-code", "--device", "cpu"]
    command += ["--agents", AGENTS, "--json"]

    with served_by_command(*SERVER, "0", "--options", '{"at": 2}', environment=environment) as (
        address,
        process,
    ):
        port = str(urlsplit(address).port)
        Toolbox().add("mine.shift", "opera_env.tools.nets:ConstantShift", options={"levels": 20}).add(
            "mine.served", address
        ).save(box)
        assert main([*command, str(target)]) == 1
        assert process.wait(20) == 3, "it died in the middle of a call"
    printed = " ".join(capsys.readouterr().err.split())
    assert f"error: the tool served at {address} does not answer" in printed
    assert f"opera-env serve-tool tests.own_tools:Dies --port {port}" in printed
    assert f"{target}.partial keeps what is finished, --resume continues" in printed
    assert "Traceback" not in printed and not target.exists()
    kept = Path(f"{target}.partial").read_text()
    assert "agent untouched" in kept and "agent greedy" not in kept

    assert main([*command, str(target), "--resume"]) == 1, "it is not served yet"
    assert "does not answer" in " ".join(capsys.readouterr().err.split())
    assert Path(f"{target}.partial").read_text() == kept
    with served_by_command(*SERVER, port, environment=environment):
        assert main([*command, str(target), "--resume"]) == 0
        assert main([*command, str(tmp_path / "whole.json")]) == 0
    assert not Path(f"{target}.partial").exists()
    resumed, whole = (path.with_suffix(".jsonl").read_text() for path in (target, tmp_path / "whole.json"))
    assert resumed == whole
    assert {json.loads(line)["agent"] for line in resumed.splitlines()} == set(AGENTS.split(","))


def test_an_evaluation_is_resumed_after_a_served_tool_was_killed(
    photos: Path,
    tmp_path: Path,
    repository: Path,
    child_environment: dict[str, str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    environment = child_environment | {"PYTHONPATH": str(repository)}
    box, target, whole = tmp_path / "box", tmp_path / "out.jsonl", tmp_path / "whole.jsonl"
    command = ["evaluate", "--benchmark", "groups-abc", "--hq", str(photos), "--canvas", "64", "--n", "1"]
    command += ["--reward", "tests.own_rewards:BRIGHT", "--toolboxes", str(box), "--trust-code"]
    command += ["--device", "cpu", "--agents", "untouched,single:mine.served", "--out"]

    def rows(path: Path) -> list[dict[str, Any]]:
        """Results without their seconds, and the digest, which covers these."""
        return [json.loads(line) | {"cost": 0, "digest": ""} for line in path.read_text().splitlines()]

    with served_by_command(*SERVER, "0", "--options", '{"at": 7}', environment=environment) as (
        address,
        process,
    ):
        port = str(urlsplit(address).port)
        Toolbox().add("mine.served", address).save(box)
        assert main([*command, str(target)]) == 1
        assert process.wait(20) == 3, "it died in the middle of a call"
    printed = " ".join(capsys.readouterr().err.split())
    assert f"error: the tool served at {address} does not answer" in printed
    assert f"opera-env serve-tool tests.own_tools:Dies --port {port}" in printed
    assert f"{target}.partial keeps what is finished, --resume continues" in printed
    assert "Traceback" not in printed and not target.exists()
    kept = Path(f"{target}.partial").read_text().splitlines()
    with served_by_command(*SERVER, port, environment=environment):
        assert main([*command, str(target), "--resume"]) == 0
        assert main([*command, str(whole)]) == 0
    assert not Path(f"{target}.partial").exists()
    assert rows(target) == rows(whole) and 1 < len(kept) < len(rows(target)) == 32
