"""The options ``--max-gpu-memory`` and ``--precision``; memory of the CPU stands for that of a GPU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from opera_env.cli import main, toolboxes
from opera_env.evaluation.results import read_results
from opera_env.tools.residency import Residency
from tests.cli.conftest import one_error
from tests.cli.test_evaluate import AGENTS, BRIGHT, arguments

PLAN = "unet.denoise,brighten.gamma_correction,unet.dejpeg,unet.denoise"

LIMIT = "0.0012"
"""GB: each of the networks of ``small_toolbox`` fits, two of them do not."""


class CountedResidency(Residency):
    """Counts how often weights are brought to the device."""

    copies = 0

    def _copy_to_device(self, block: Any) -> torch.Tensor:
        self.copies += 1
        return super()._copy_to_device(block)


@pytest.fixture
def residencies(monkeypatch: pytest.MonkeyPatch) -> list[CountedResidency]:
    """A machine with a GPU; what is made for it during the test."""
    made: list[CountedResidency] = []

    def make(device: str, max_bytes: int) -> Residency:
        assert device == "cuda"
        made.append(CountedResidency("cpu", max_bytes))
        return made[-1]

    monkeypatch.setattr(toolboxes, "resolve_device", lambda name: {"auto": "cuda"}.get(name, name))
    monkeypatch.setattr(toolboxes, "Residency", make)
    return made


def test_photographs_are_restored_within_the_limit(
    run: Any, small_toolbox: Path, residencies: list[CountedResidency]
) -> None:
    options = ("--plan", PLAN, "--toolbox", str(small_toolbox))
    assert run.restore(*options, "--device", "cpu") == 0
    expected = {name: (run.out / name).read_bytes() for name in run.results()}
    assert run.restore(*options, "--force", "--max-gpu-memory", LIMIT) == 0
    assert {name: (run.out / name).read_bytes() for name in run.results()} == expected
    (residency,) = residencies
    assert residency.max_bytes == 1_200_000 and len(residency.resident) == 1
    assert residency.copies == 5, (
        "twice denoise, dejpeg, denoise, of which denoise stays between photographs"
    )


@pytest.mark.slow
def test_an_evaluation_within_the_limit_has_the_same_results(
    photos: Path, small_toolbox: Path, tmp_path: Path, residencies: list[CountedResidency]
) -> None:
    rows: list[list[dict[str, Any]]] = []
    command = arguments(photos, small_toolbox, "--agents", AGENTS, "--reward", BRIGHT)
    for place in (("cpu",), ("auto", "--max-gpu-memory", LIMIT)):
        target = tmp_path / f"{place[0]}.jsonl"
        assert main([*command, "--out", str(target), "--device", *place]) == 0
        timed = {"cost": 0, "digest": ""}  # the cost has seconds, and the digest covers it
        rows.append([json.loads(line) | timed for line in target.read_text().splitlines()])
    assert rows[0] == rows[1] and len(residencies) == 1 and residencies[0].copies > 0


@pytest.mark.slow
def test_results_at_another_precision_are_of_other_tools(
    photos: Path, small_toolbox: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["compare", "--images", str(photos), "--canvas", "64", "--n", "2", "--device", "cpu"]
    command += ["--toolbox", str(small_toolbox), "--reward", BRIGHT, "--no-sheet"]
    command += ["--agents", "untouched,single:unet.denoise", "--json"]
    summaries: list[dict[str, Any]] = []
    for precision in ("float32", "bfloat16"):
        target = tmp_path / f"{precision}.json"
        assert main([*command, str(target), "--precision", precision]) == 0
        summaries.append(json.loads(target.read_text()))
    exact, reduced = (summary["config"] for summary in summaries)
    assert (exact["precision"], reduced["precision"]) == ("float32", "bfloat16")
    assert exact["signature"] == reduced["signature"]
    assert exact["fingerprint"] != reduced["fingerprint"]

    target = tmp_path / "results.jsonl"
    words = ("--agents", "single:unet.denoise", "--reward", BRIGHT, "--out", target)
    assert main(arguments(photos, small_toolbox, *words, "--precision", "bfloat16")) == 0
    assert {row.fingerprint for row in read_results(target)} == {reduced["fingerprint"]}
    verify = ["evaluate", "--reverify", str(target), "--hq", str(photos), "--canvas", "64", "--n", "1"]
    verify += ["--reward", BRIGHT, "--judge", BRIGHT, "--toolboxes", str(small_toolbox), "--device", "cpu"]
    assert main([*verify, "--precision", "bfloat16"]) == 0
    assert "16 results verified" in capsys.readouterr().out
    assert main(verify) == 1
    assert "which is not here" in capsys.readouterr().out


def test_a_limit_needs_a_device_with_memory_of_its_own(
    run: Any,
    small_toolbox: Path,
    residencies: list[CountedResidency],
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ("--plan", PLAN, "--toolbox", str(small_toolbox), "--max-gpu-memory")
    assert run.restore(*options, "1", "--device", "cpu") == 2
    assert "--max-gpu-memory 1: expected a device with memory of its own" in one_error(capsys)
    assert run.restore(*options, "0.0001") == 1
    assert "tool 'unet.denoise' has 0.000871 GB of weights, and the limit" in one_error(capsys)
    assert run.results() == []


def test_a_tool_that_stays_in_float32_is_named_in_one_line(
    run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--plan", "unet.defocus_deblur", "--toolbox", "lite-adapted", "--device", "cpu")
    assert run.restore(*options) == 0
    expected = {name: (run.out / name).read_bytes() for name in run.results()}
    capsys.readouterr()
    assert run.restore(*options, "--force", "--precision", "bfloat16") == 0
    assert {name: (run.out / name).read_bytes() for name in run.results()} == expected
    notes = [line for line in capsys.readouterr().err.splitlines() if "float32" in line]
    assert len(notes) == 1, "for two photographs"
    assert notes[0].startswith("note: tool 'unet.defocus_deblur' runs in float32: in bfloat16 it agrees")
