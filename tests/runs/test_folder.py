"""A run's folder belongs to one trainer at a time, and to the settings with which it was started."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from opera_env.errors import RunError
from opera_env.runs import claim_run_dir, describe_progress

IMAGES = {"name": "bsds500/train", "content": "0123456789abcdef"}


def claim(folder: Path, **settings: Any) -> None:
    with claim_run_dir(folder, {"lr": 0.1, "weights": (1.0, 2.0), "steps": 3, **settings}, ("steps",)):
        pass


def saved(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text())


def test_a_run_is_resumed_with_the_same_settings_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    claim(tmp_path / "run")
    assert saved(tmp_path / "run") == {"lr": 0.1, "weights": [1.0, 2.0], "steps": 3}
    claim(tmp_path / "run", steps=4)
    assert saved(tmp_path / "run")["steps"] == 4 and saved(tmp_path / "run")["previous"] == [{"steps": 3}]
    assert capsys.readouterr().out == f"{tmp_path / 'run'}: steps 3, now 4\n"
    claim(tmp_path / "run", steps=4)
    assert capsys.readouterr().out == ""
    with pytest.raises(RunError, match=r"\(lr 0\.1, now 0\.2\): choose another --out"):
        claim(tmp_path / "run", lr=0.2, steps=5)
    assert saved(tmp_path / "run")["steps"] == 4, "a refused command changes nothing"
    claim(tmp_path / "run", steps=6)
    assert saved(tmp_path / "run")["previous"] == [{"steps": 3}, {"steps": 4}]


def test_inputs_are_compared_by_content(tmp_path: Path) -> None:
    claim(tmp_path, images=IMAGES, toolbox={"name": "T1/toolbox", "content": "a"})
    claim(tmp_path, images={**IMAGES, "name": "moved/photographs"}, toolbox={"name": "x", "content": "a"})
    expected = r"\(toolbox x \(content a\), now T2/toolbox \(content b\)\)"
    with pytest.raises(RunError, match=expected):
        claim(tmp_path, images=IMAGES, toolbox={"name": "T2/toolbox", "content": "b"})
    claim(tmp_path / "several", images=[IMAGES, IMAGES])
    claim(tmp_path / "several", images=[IMAGES, {**IMAGES, "name": "moved"}])
    with pytest.raises(RunError, match="images"):
        claim(tmp_path / "several", images=[IMAGES])
    with pytest.raises(RunError, match=r"images .*now None; toolbox .*now 'lite'"):
        claim(tmp_path, images=None, toolbox="lite")


def test_one_trainer_at_a_time(tmp_path: Path) -> None:
    expected = r"another process is training in .*: wait until it ends"
    with claim_run_dir(tmp_path, {"lr": 0.1}), pytest.raises(RunError, match=expected):
        claim_run_dir(tmp_path, {"lr": 0.1})
    with claim_run_dir(tmp_path, {"lr": 0.1}):
        pass
    lock = claim_run_dir(tmp_path, {"lr": 0.1})
    del lock
    claim_run_dir(tmp_path, {"lr": 0.1})


def test_a_killed_process_frees_its_folder(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    process = context.Process(target=_hold, args=(tmp_path,))
    process.start()
    assert process.pid is not None
    while not (tmp_path / "ready").exists():
        time.sleep(0.01)
    with pytest.raises(RunError, match="another process"):
        claim_run_dir(tmp_path, {})
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    claim_run_dir(tmp_path, {})


def _hold(folder: Path) -> None:
    with claim_run_dir(folder, {}):
        (folder / "ready").touch()
        time.sleep(60)


@pytest.mark.parametrize("content", ["", '{"lr": 0.', "[1]", "null", b"\xff\xfe"])
def test_damaged_settings_are_refused_and_kept(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    before = path.read_bytes()
    with pytest.raises(RunError, match=r"config\.json: expected the settings of a run as JSON .*: delete"):
        claim(tmp_path)
    assert path.read_bytes() == before


def test_unchanged_settings_are_not_written_again(tmp_path: Path) -> None:
    claim(tmp_path)
    before = (tmp_path / "config.json").stat()
    claim(tmp_path)
    assert (tmp_path / "config.json").stat() == before


def test_progress_is_described(tmp_path: Path) -> None:
    assert describe_progress(tmp_path, 0, 3, "updates") is None
    assert describe_progress(tmp_path, 0, 0, "updates") is None
    assert describe_progress(tmp_path, 2, 3, "updates") == f"resuming {tmp_path} after 2 of 3 updates"
    finished = describe_progress(tmp_path, 3, 3, "updates")
    assert finished == f"{tmp_path} is finished, 3 of 3 updates: raise --updates to train it further"
    with pytest.raises(RunError, match="trained for 4 updates, which cannot become 3: set --updates to 4"):
        describe_progress(tmp_path, 4, 3, "updates")
