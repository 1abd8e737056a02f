"""Trainers that are killed, interrupted, given a full disk, damaged files or other images, or run twice.

Whatever happens, the exit code and one line say so, no file is lost or half written, and the same command
then ends with the same results as an undisturbed run.
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.faults.all_trainers import TRAINERS, make_inputs, short_answers_and_rewards
from tests.faults.conftest import Counts
from tests.faults.processes import Ended, Process, leftovers, random_moments, small_disk
from tests.faults.trainers import Inputs, Trainer, results

SIGNALS = {signal.SIGKILL: -9, signal.SIGINT: 130, signal.SIGTERM: 143}
"""The exit code after each signal."""

WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
"""The line after each signal."""

Whole = Callable[[str], Path]

ALL = pytest.mark.parametrize("name", TRAINERS)


@pytest.fixture(scope="module")
def inputs(photos: Path, small_toolbox: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inputs]:
    with short_answers_and_rewards():
        yield make_inputs(photos, small_toolbox, tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def whole(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """``whole(name)`` is the folder of an undisturbed run of a trainer."""
    folders: dict[str, Path] = {}

    def run(name: str) -> Path:
        if name not in folders:
            folders[name] = tmp_path_factory.mktemp("whole") / "root"
            ended = TRAINERS[name].run(inputs, folders[name])
            assert ended.code == 0, ended.err
        return folders[name]

    return run


def assert_ended(trainer: Trainer, ended: Ended, code: int, *texts: str) -> None:
    """Checks the exit code and the line that says how a run ended."""
    assert ended.code == code, ended
    assert "Traceback" not in ended.err and "Exception ignored" not in ended.err, ended.err
    *warnings, line = ended.err.splitlines()
    assert trainer.warns or warnings == [], ended.err
    for text in texts:
        assert text in line, ended.err


def assert_same_results(trainer: Trainer, folder: Path, whole: Path) -> None:
    found, expected = results(folder / trainer.results), results(whole / trainer.results)
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []
    assert leftovers(folder) == []


@ALL
@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_run_that_is_stopped_at_random_moments_resumes_exactly(
    name: str, number: signal.Signals, inputs: Inputs, whole: Whole, tmp_path: Path, counts: Counts
) -> None:
    """Success is reported if all was written before the signal, and only then."""
    trainer, expected = TRAINERS[name], whole(name)
    count = 1 if trainer.is_slow else 3
    for moment in random_moments(seed=list(SIGNALS).index(number), count=count, latest=1.5):
        run = trainer.start(inputs, tmp_path)
        run.send(number, moment)
        ended = run.wait()
        was_stopped = run.has_received(number) or ended.code == -signal.SIGKILL
        if was_stopped and number != signal.SIGKILL:
            assert_ended(trainer, ended, SIGNALS[number], WORDS[number])
            line = ended.err.splitlines()[-1]
            assert line in (WORDS[number], f"{WORDS[number]}: the same command resumes {run.out}")
            assert [path for path in leftovers(tmp_path) if path.is_file()] == []
        elif not was_stopped:  # the signal came between the end of the command and that of the process
            assert ended.code in (0, SIGNALS[number]) and "Exception ignored" not in ended.err
            assert_same_results(trainer, tmp_path, expected)
        counts(f"trainers: runs stopped by {number.name}", int(was_stopped))
    assert trainer.run(inputs, tmp_path).code == 0
    assert_same_results(trainer, tmp_path, expected)


@ALL
def test_two_processes_do_not_train_in_one_folder(
    name: str, inputs: Inputs, whole: Whole, tmp_path: Path, counts: Counts
) -> None:
    trainer, expected = TRAINERS[name], whole(name)
    first = trainer.start(inputs, tmp_path)
    first.wait_for(first.out if first.out.suffix else tmp_path / trainer.folder / "config.json")
    assert first.send(signal.SIGSTOP, after=0)  # so that it does not end before the second has started
    second = trainer.run(inputs, tmp_path)
    assert first.send(signal.SIGCONT, after=0)
    assert_ended(trainer, second, 1, "error: another process is", str(tmp_path), "wait until it ends")
    assert first.wait().code == 0
    assert_same_results(trainer, tmp_path, expected)
    counts("trainers: second processes refused")


@ALL
def test_a_full_disk_is_one_line_and_the_run_resumes(
    name: str, inputs: Inputs, whole: Whole, tmp_path: Path, counts: Counts
) -> None:
    """The size of files is limited instead: small files can be written, others end before their end."""
    trainer, expected = TRAINERS[name], whole(name)
    sizes = [path.stat().st_size for path in (expected / trainer.folder).rglob("*") if path.is_file()]
    smallest = min(3_000, max(sizes) // 2)  # the line on standard error is written to a file too
    limits = np.quantile(sizes, (0.3, 0.6, 0.9)).astype(int).clip(smallest).tolist()
    if trainer.is_slow:
        limits = [max(sizes) // 2, max(sizes) - 1]
    num_full = 0
    for limit in sorted(set(limits)):
        ended = trainer.run(inputs, tmp_path, max_file_bytes=limit)
        if ended.code == 0:
            break  # what had been written before was enough
        assert_ended(trainer, ended, 1, "error: ", str(tmp_path))
        assert "File too large" in ended.err or (trainer.warns and "is the disk full?" in ended.err)
        assert [path for path in leftovers(tmp_path) if path.is_file()] == []
        num_full += 1
    assert num_full > 0
    counts("trainers: full disks", num_full)
    assert trainer.run(inputs, tmp_path).code == 0
    assert_same_results(trainer, tmp_path, expected)


def test_a_run_on_a_full_disk_continues_on_another(
    inputs: Inputs, whole: Whole, tmp_path: Path, counts: Counts
) -> None:
    trainer, full, larger = TRAINERS["planner"], tmp_path / "full", tmp_path / "larger"
    with small_disk(full, 4_000_000) as max_file_bytes:
        ended = trainer.run(inputs, full, max_file_bytes=max_file_bytes)
        if max_file_bytes is None:
            assert_ended(trainer, ended, 1, "No space left on device", str(full))
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
    name: str, kind: str, inputs: Inputs, whole: Whole, tmp_path: Path, counts: Counts
) -> None:
    """The files of a run that it reads again, one after the other."""
    trainer, expected = TRAINERS[name], whole(name)
    shutil.copytree(expected, tmp_path, dirs_exist_ok=True)
    originals = sorted(path for pattern in trainer.read_again for path in expected.glob(pattern))
    assert len(originals) >= len(trainer.read_again)
    for original in originals:
        path = tmp_path / original.relative_to(expected)
        if kind == "flipped" and not has_digest(path):
            continue
        damage(path, kind)
        ended = trainer.run(inputs, tmp_path)
        if ended.code:
            assert_ended(trainer, ended, 1, str(path), "elete")
            shutil.copy(original, path)
            assert trainer.run(inputs, tmp_path).code == 0
        else:
            says = ("damaged", "written again", "checkpoint before it", "previous checkpoint")
            assert any(text in ended.out for text in says), ended.out
        assert_same_results(trainer, tmp_path, expected)
        counts("trainers: damaged files")


def has_digest(path: Path) -> bool:
    """Text has no digest, because people may edit it; the files of TRL have none either."""
    return path.suffix != ".json" and not path.parent.name.startswith("checkpoint-")


@ALL
def test_other_images_are_refused_and_moved_ones_are_not(
    name: str, inputs: Inputs, whole: Whole, tmp_path: Path, counts: Counts
) -> None:
    trainer, images = TRAINERS[name], tmp_path / "moved"
    shutil.copytree(inputs.images, images)
    root = Path(shutil.copytree(whole(name), tmp_path / "root"))
    moved = replace(inputs, images=images)
    assert trainer.run(moved, root).code == 0
    shutil.copy(images / "0.png", images / "1.png")
    ended = trainer.run(moved, root)
    assert_ended(trainer, ended, 1, "images", "(content ", ", now ", "choose another --out")
    (images / "1.png").unlink()
    assert_ended(trainer, trainer.run(moved, root), 1, "images")
    shutil.rmtree(images)
    assert_ended(trainer, trainer.run(moved, root), 1, "found no folder")
    counts("trainers: changed images", 3)


@ALL
def test_a_wrong_command_writes_nothing(name: str, inputs: Inputs, tmp_path: Path) -> None:
    trainer, nowhere = TRAINERS[name], tmp_path / "nowhere"
    wrong = replace(inputs, images=nowhere)
    ended = trainer.run(wrong, tmp_path)
    assert_ended(trainer, ended, 1, f"{nowhere}: expected a folder of images")
    if name != "tool":
        wrong = replace(inputs, toolbox=nowhere)
        assert_ended(trainer, trainer.run(wrong, tmp_path), 1, f"no toolbox '{nowhere}'")
    if name != "vlm grpo":  # tests/agents/vlm/test_command_line.py has its command line
        ended = trainer.run(inputs, tmp_path, "--threads", "0")
        assert_ended(trainer, ended, 2, "--threads 0: expected a number")
    if name not in ("tool", "vlm grpo"):
        ended = trainer.run(inputs, tmp_path, "--reward", "lit")
        assert_ended(trainer, ended, 1, "unknown reward 'lit'")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", WORDS, ids=lambda number: number.name)
def test_signals_during_the_imports_are_one_line(
    number: signal.Signals, tmp_path: Path, counts: Counts
) -> None:
    """A trainer imports for seconds; the first half second belongs to the interpreter."""
    arguments = ("-X", "importtime", "-m", "opera_agents.planner.train", "--images", "a", "--val", "b")
    with Process(arguments, cwd=tmp_path) as process:
        assert process.wait_for("opera_agents.common")
        assert process.send(number)
        ended = process.wait()
    lines = [line for line in ended.err.splitlines() if not line.startswith("import time")]
    assert (ended.code, lines) == (SIGNALS[number], [WORDS[number]])
    assert list(tmp_path.iterdir()) == []
    counts("trainers: signals during imports")
