"""``make train``: every stage at toy size, resumed after a failure, and the packages' files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from opera_agents.planner.saved import load_policy
from opera_baselines.detect import load_detector
from opera_env.tools import Toolbox
from scripts import train_stage

ROOT = Path(__file__).parents[2]


def make(out: Path, *variables: str) -> subprocess.CompletedProcess[str]:
    command = [
        "make",
        "-f",
        "scripts/train.mk",
        "-j",
        "2",
        f"OUT={out}",
        f"PYTHON={sys.executable}",
        *variables,
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.needs_shared_data
@pytest.mark.needs_weights("lpips")
def test_every_stage_runs_and_the_packages_can_be_filled(shared_data: Path, tmp_path: Path) -> None:
    folders = {}
    for name, count in (("train", 40), ("val", 6)):
        folders[name] = tmp_path / name
        folders[name].mkdir()
        for path in sorted((shared_data / "bsds500" / name).iterdir())[:count]:
            (folders[name] / path.name).symlink_to(path)
    out, shipped = tmp_path / "out", tmp_path / "packages"
    variables = (f"IMAGES={folders['train']}", f"VAL={folders['val']}", "QUICK=1", f"SHIP_TO={shipped}")
    run = make(out, *variables, "ship")
    assert run.returncode == 0, run.stderr[-2000:] + run.stdout[-2000:]
    assert "| all " in run.stdout

    records = [json.loads(line) for line in (out / "times.jsonl").read_text().splitlines()]
    stages = Counter(record["stage"] for record in records)
    assert set(stages.values()) == {1} and len(stages) == 2 * 16 + 42
    for pool in ("lite", "lite-adapted", "lite-cotrained"):
        toolbox = Toolbox.load(shipped / "opera_env" / "tools" / "weights" / pool)
        assert len(toolbox) == 18
        assert all(tool.training["pool"] in ("lite", pool) for tool in toolbox if "unet" in tool.name)
    agents = shipped / "agents" / "opera_agents"
    for folder in ("weights", "weights/lite-cotrained"):
        assert load_policy(agents / "planner" / folder)[1].tools == toolbox.names
    load_detector(shipped / "baselines" / "opera_baselines" / "detect.safetensors")
    assert (agents / "ppo" / "weights" / "agent.json").is_file()
    assert (agents / "vlm" / "weights" / "model.safetensors").is_file()

    # Finished stages are left out.
    (out / "done" / "card-lite").unlink()
    assert make(out, *variables).returncode == 0
    assert len((out / "times.jsonl").read_text().splitlines()) == len(records) + 1


def test_without_photographs_nothing_is_trained(tmp_path: Path) -> None:
    run = make(tmp_path)
    assert run.returncode != 0
    assert "name folders of clean photographs" in run.stderr
    assert not list(tmp_path.iterdir())


def test_a_stage_that_fails_is_not_done_and_its_time_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fails = [sys.executable, "-c", "print('half way'); raise SystemExit(3)"]
    assert train_stage.main([str(tmp_path), "tools", "--", *fails]) == 3
    assert (tmp_path / "log" / "tools.log").read_text() == "half way\n"
    assert not (tmp_path / "done" / "tools").exists()
    assert "exit code 3" in capsys.readouterr().err
    assert train_stage.main([str(tmp_path), "tools", "--", sys.executable, "-c", "print('done')"]) == 0
    assert (tmp_path / "log" / "tools.log").read_text() == "half way\ndone\n"
    assert (tmp_path / "done" / "tools").exists()
    capsys.readouterr()
    assert train_stage.main([str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("tools") == 1, "attempts are added up"
    assert train_stage.main([]) == 2
