"""Trainers that are killed, interrupted, given a full disk, damaged files or other images, or run twice.

Whatever happens, the exit code and one line say so, no file is lost or half written, and the same command
then ends with the same results as an undisturbed run.
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.faults.conftest import Counts
from tests.faults.processes import Ended, Process, leftovers, random_moments, small_disk
from tests.faults.trainers import TRAINERS, Inputs, Trainer, make_inputs, results

SIGNALS = {signal.SIGKILL: -9, signal.SIGINT: 130, signal.SIGTERM: 143}
"""The exit code after each signal."""

ALL = pytest.mark.parametrize("name", TRAINERS)


@pytest.fixture(scope="module")
def inputs(photos: Path, small_toolbox: Path, tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    return make_inputs(photos, small_toolbox, tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def whole(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """``whole(name)`` is the folder of an undisturbed run of a trainer."""
    folders: dict[str, Path] = {}

    def run(name: str) -> Path:
        if name not in folders:
            folders[name] = tmp_path_factory.mktemp("whole") / "root"
            ended = TRAINERS[name].run(inputs, folders[name])
            assert ended.code == 0, ended.err
        return folders[name]

    return run


def assert_one_line(ended: Ended, code: int, *texts: str) -> None:
    assert ended.code == code, ended
    assert ended.err.count("\n") == 1 and "Traceback" not in ended.err, ended.err
    for text in texts:
        assert text in ended.err, ended.err


def assert_same_results(trainer: Trainer, folder: Path, whole: Path) -> None:
    found, expected = results(folder / trainer.folder), results(whole / trainer.folder)
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []
    assert leftovers(folder) == []


@ALL
@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_run_that_is_stopped_at_random_moments_resumes_exactly(
    name: str, number: signal.Signals, inputs: Inputs, whole: Any, tmp_path: Path, counts: Counts
) -> None:
    trainer, expected = TRAINERS[name], whole(name)
    for moment in random_moments(seed=list(SIGNALS).index(number), count=3, latest=1.5):
        run = trainer.start(inputs, tmp_path)
        was_running = run.send(number, moment)
        ended = run.wait()
        if not was_running or ended.code == 0:  # all was done, or the process was just ending
            assert (ended.code, "Exception ignored" in ended.err) == (0, False)
            was_running = False
        elif number == signal.SIGKILL:
            assert ended.code == -9
        else:
            word = "interrupted" if number == signal.SIGINT else "terminated"
            assert_one_line(ended, SIGNALS[number], word)
            assert ended.err in (f"{word}\n", f"{word}: the same command resumes {run.out}\n")
            assert leftovers(tmp_path) == []
        counts(f"trainers: runs stopped by {number.name}", int(was_running))
    assert trainer.run(inputs, tmp_path).code == 0
    assert_same_results(trainer, tmp_path, expected)


@ALL
def test_two_processes_do_not_train_in_one_folder(
    name: str, inputs: Inputs, whole: Any, tmp_path: Path, counts: Counts
) -> None:
    trainer, expected = TRAINERS[name], whole(name)
    first = trainer.start(inputs, tmp_path)
    first.wait_for(first.out if first.out.suffix else tmp_path / trainer.folder / "config.json")
    assert first.send(signal.SIGSTOP, after=0)  # so that it does not end before the second has started
    second = trainer.run(inputs, tmp_path)
    assert first.send(signal.SIGCONT, after=0)
    assert_one_line(second, 1, "error: another process is", str(tmp_path), "wait until it ends")
    assert first.wait().code == 0
    assert_same_results(trainer, tmp_path, expected)
    counts("trainers: second processes refused")


@ALL
def test_a_full_disk_is_one_line_and_the_run_resumes(
    name: str, inputs: Inputs, whole: Any, tmp_path: Path, counts: Counts
) -> None:
    """The size of files is limited instead: small files can be written, others end before their end."""
    trainer, expected = TRAINERS[name], whole(name)
    sizes = [path.stat().st_size for path in (expected / trainer.folder).rglob("*") if path.is_file()]
    smallest, num_full = (
        min(3_000, max(sizes) // 2),
        0,
    )  # the line on standard error is written to a file too
    for size in sorted({*np.quantile(sizes, (0.3, 0.6, 0.9)).astype(int).clip(smallest).tolist()}):
        ended = trainer.run(inputs, tmp_path, max_file_bytes=size)
        if ended.code == 0:
            break  # what had been written before was enough
        assert_one_line(ended, 1, "File too large", str(tmp_path))
        assert leftovers(tmp_path) == []
        num_full += 1
    assert num_full > 0
    counts("trainers: full disks", num_full)
    assert trainer.run(inputs, tmp_path).code == 0
    assert_same_results(trainer, tmp_path, expected)


def test_a_run_on_a_full_disk_continues_on_another(
    inputs: Inputs, whole: Any, tmp_path: Path, counts: Counts
) -> None:
    trainer, full, larger = TRAINERS["planner"], tmp_path / "full", tmp_path / "larger"
    with small_disk(full, 4_000_000) as max_file_bytes:
        ended = trainer.run(inputs, full, max_file_bytes=max_file_bytes)
        if max_file_bytes is None:
            assert_one_line(ended, 1, "No space left on device", str(full))
            counts("trainers: full disks")
        assert leftovers(full) == []
        shutil.copytree(full, larger)
    assert trainer.run(inputs, larger).code == 0
    assert_same_results(trainer, larger, whole("planner"))


def damage(path: Path, kind: str) -> None:
    content = bytearray(path.read_bytes())
    if kind == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "flipped":
        content[len(content) * 2 // 3] ^= 1
        path.write_bytes(content)
    elif path.suffix == ".pt":
        torch.save([1, 2], path)
    else:
        path.write_text("[1, 2]")


@ALL
@pytest.mark.parametrize("kind", ["cut", "flipped", "empty", "of another type"])
def test_damaged_files_are_replaced_or_named(
    name: str, kind: str, inputs: Inputs, whole: Any, tmp_path: Path, counts: Counts
) -> None:
    """The files of a run that it reads again, one after the other."""
    trainer, expected = TRAINERS[name], whole(name)
    shutil.copytree(expected, tmp_path, dirs_exist_ok=True)
    names = {"config.json", "checkpoint.pt", "warm.safetensors", "plans.json", "000.npz"}
    names -= {"joint": {"warm.safetensors"}, "reward table": {"000.npz"}}.get(name, set())
    for original in sorted(path for path in expected.rglob("*") if path.name in names):
        path = tmp_path / original.relative_to(expected)
        if kind == "flipped" and path.suffix == ".json":
            continue  # text has no digest, and people may edit it
        damage(path, kind)
        ended = trainer.run(inputs, tmp_path)
        if ended.code:
            assert_one_line(ended, 1, str(path), "elete")
            shutil.copy(original, path)
            assert trainer.run(inputs, tmp_path).code == 0
        else:
            assert "damaged" in ended.out or "written again" in ended.out, ended.out
        assert_same_results(trainer, tmp_path, expected)
        counts("trainers: damaged files")


@ALL
def test_other_images_are_refused_and_moved_ones_are_not(
    name: str, inputs: Inputs, whole: Any, tmp_path: Path, counts: Counts
) -> None:
    trainer, images = TRAINERS[name], tmp_path / "moved"
    shutil.copytree(inputs.images, images)
    root = Path(shutil.copytree(whole(name), tmp_path / "root"))
    moved = Inputs(images, inputs.toolbox, inputs.planner)
    assert trainer.run(moved, root).code == 0
    shutil.copy(images / "0.png", images / "1.png")
    assert_one_line(trainer.run(moved, root), 1, "images", "(content ", ", now ", "choose another --out")
    (images / "1.png").unlink()
    assert_one_line(trainer.run(moved, root), 1, "images")
    shutil.rmtree(images)
    assert_one_line(trainer.run(moved, root), 1, "found no folder")
    counts("trainers: changed images", 3)


@ALL
def test_a_wrong_command_writes_nothing(name: str, inputs: Inputs, tmp_path: Path) -> None:
    trainer, nowhere = TRAINERS[name], tmp_path / "nowhere"
    wrong = Inputs(nowhere, inputs.toolbox, inputs.planner)
    assert_one_line(trainer.run(wrong, tmp_path), 1, f"{nowhere}: expected a folder of images")
    assert_one_line(trainer.run(inputs, tmp_path, "--threads", "0"), 2, "--threads 0: expected a number")
    if name != "tool":
        wrong = Inputs(inputs.images, nowhere, inputs.planner)
        assert_one_line(trainer.run(wrong, tmp_path), 1, f"no toolbox '{nowhere}'")
        ended = trainer.run(inputs, tmp_path, "--reward", "lit")
        assert_one_line(ended, 1, "unknown reward 'lit'")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_signals_during_the_imports_are_one_line(
    number: signal.Signals, tmp_path: Path, counts: Counts
) -> None:
    """A trainer imports for seconds; the first half second belongs to the interpreter."""
    arguments = ("-X", "importtime", "-m", "opera_agents.planner.train", "--images", "a", "--val", "b")
    with Process(arguments, cwd=tmp_path) as process:
        assert process.wait_for("opera_agents.common")
        assert process.send(number)
        ended = process.wait()
    word = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}[number]
    lines = [line for line in ended.err.splitlines() if not line.startswith("import time")]
    assert (ended.code, lines) == (SIGNALS[number], [word])
    assert list(tmp_path.iterdir()) == []
    counts("trainers: signals during imports")
