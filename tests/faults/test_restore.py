"""``opera-env restore`` is interrupted, disturbed and short of space: nothing is lost or half written.

The agent is ``random``, whose plan for a photograph must not depend on what was restored before.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.faults.conftest import Counts
from tests.faults.processes import (
    OPERA_ENV,
    Ended,
    Process,
    child_environment,
    contents,
    leftovers,
    random_moments,
    run,
    small_disk,
)

NUM_PHOTOGRAPHS = 12
NAMES = [f"{number:02}.png" for number in range(NUM_PHOTOGRAPHS)]
CODES = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}
LINES = {signal.SIGTERM: "terminated", signal.SIGINT: "interrupted"}


def command(photographs: Path, out: Path, *options: str) -> list[str]:
    """Returns the arguments of Python that restore the photographs."""
    agent = ["--agent", "random", "--seed", "3", "--toolbox", "lite"]
    return [*OPERA_ENV, "restore", str(photographs), "-o", str(out), *agent, *options]


def records(ended: Ended) -> dict[str, str]:
    """Returns the status of each photograph by its name, from the JSON document."""
    document = json.loads(ended.out)
    return {Path(record["input"]).name: record["status"] for record in document["photographs"]}


@pytest.fixture(scope="module")
def photographs(
    tmp_path_factory: pytest.TempPathFactory, make_photograph: Callable[[int, int, int], Image.Image]
) -> Path:
    """A folder of photographs, each of which takes a tenth of a second or more."""
    folder = tmp_path_factory.mktemp("photographs")
    for seed, name in enumerate(NAMES):
        make_photograph(120 + 4 * seed, 160, seed).save(folder / name)
    return folder


@pytest.fixture(scope="module")
def expected(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The results of an uninterrupted run."""
    out = tmp_path_factory.mktemp("expected") / "out"
    ended = run(command(photographs, out))
    assert ended.code == 0, ended.err
    results = contents(out)
    assert sorted(results) == NAMES
    return results


@pytest.fixture
def mine(photographs: Path, tmp_path: Path) -> Path:
    """A copy of the photographs that a test may change."""
    return Path(shutil.copytree(photographs, tmp_path / "photographs"))


def check_results(out: Path, expected: dict[str, bytes]) -> int:
    """Checks that every result is complete and as expected; returns how many there are."""
    results = {name: data for name, data in contents(out).items() if not name.startswith(".")}
    assert all(data == expected[name] for name, data in results.items())
    return len(results)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_run_that_is_interrupted_again_and_again_ends_like_an_uninterrupted_one(
    seed: int, photographs: Path, expected: dict[str, bytes], tmp_path: Path, counts: Counts
) -> None:
    out, num_interrupted = tmp_path / "out", 0
    signals = np.random.default_rng(seed).permutation([signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
    for number, seconds in zip(signals, random_moments(seed, 3, latest=0.3), strict=True):
        before = check_results(out, expected) if out.exists() else 0
        with Process(command(photographs, out, "--skip-existing", "--json")) as process:
            assert process.wait_for(": ", timeout=200), "a photograph was restored or skipped"
            process.wait_until(lambda before=before: len(list(out.glob("*.png"))) > before)
            interrupted = process.send(signal.Signals(number), seconds)
            ended = process.wait()
        assert "Traceback" not in ended.err
        after = check_results(out, expected)
        assert after > before or before == NUM_PHOTOGRAPHS, "every run makes progress"
        if not interrupted or ended.code == 0:  # all was done before the signal
            assert (ended.code, after) == (0, NUM_PHOTOGRAPHS)
            continue
        num_interrupted += 1
        assert ended.code == CODES[signal.Signals(number)]
        if number != signal.SIGKILL:
            hint = "the same command with --skip-existing continues"
            assert ended.err.splitlines()[-1] == f"{LINES[signal.Signals(number)]}: {hint}"
            assert leftovers(out) == []
            reported = [name for name, status in records(ended).items() if status != "skipped"]
            # The signal may come between the writing of a result and its record.
            assert after - before - len(reported) in (0, 1), "the report names what was written"
            assert all((out / name).exists() for name in reported)
        counts(f"restore: runs ended by {signal.Signals(number).name}")
    assert num_interrupted > 0
    ended = run(command(photographs, out, "--skip-existing"))
    assert ended.code == 0, ended.err
    assert contents(out) == expected, "no result differs, and no temporary file is left"
    counts("restore: photographs equal to those of an uninterrupted run", len(expected))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_signal_during_the_start_ends_it_in_one_line(
    number: signal.Signals, photographs: Path, tmp_path: Path, counts: Counts
) -> None:
    """From the first import of this package on; before, the interpreter itself starts."""
    script = Path(sys.executable).with_name("opera-env")
    if not script.exists():
        pytest.skip("the package is not installed in this environment")
    options = command(photographs, tmp_path / "out")[len(OPERA_ENV) :]
    for after in random_moments(int(number), 4, latest=2.0):
        with Process([script, *options]) as process:  # a script of Python
            assert process.wait_until(lambda pid=process.process.pid: _handles_sigterm(pid))
            assert process.send(number, after)
            ended = process.wait()
        # A fast machine restores already, and then says how to continue.
        explained = f"{LINES[number]}: the same command with --skip-existing continues"
        assert ended.code == CODES[number]
        assert ended.err.splitlines()[-1] in (LINES[number], explained)
        assert "Traceback" not in ended.err
        assert leftovers(tmp_path) == []
        counts("restore: starts that were interrupted")


def test_a_full_disk_is_named_and_the_run_continues_when_there_is_space(
    photographs: Path, expected: dict[str, bytes], tmp_path: Path, counts: Counts
) -> None:
    with small_disk(tmp_path / "disk", size=4 * max(map(len, expected.values()))) as max_file_bytes:
        out, filler = tmp_path / "disk" / "out", tmp_path / "disk" / "filler"
        if max_file_bytes is None:
            filler.write_bytes(bytes(2 * max(map(len, expected.values()))))
        else:
            max_file_bytes = min(map(len, expected.values()))
        arguments = command(photographs / "0[0-3].png", out, "--skip-existing", "--json")
        full = run(arguments, max_file_bytes=max_file_bytes)
        assert full.code == 1 and "Traceback" not in full.err
        failed = [name for name, status in records(full).items() if status == "failed"]
        assert failed and full.err.count("No space left") + full.err.count("File too large") >= len(failed)
        check_results(out, expected)
        assert leftovers(out) == []
        filler.unlink(missing_ok=True)
        assert run(arguments).code == 0
        assert contents(out) == {name: expected[name] for name in NAMES[:4]}
    counts("restore: photographs that a full disk refused", len(failed))


def test_photographs_that_change_during_the_run_fail_alone_or_are_restored_as_they_are(
    mine: Path, expected: dict[str, bytes], tmp_path: Path, counts: Counts
) -> None:
    out = tmp_path / "out"
    with Process(command(mine, out, "--json")) as process:
        assert process.wait_until(lambda: (out / NAMES[0]).exists())
        (mine / NAMES[11]).unlink()
        (mine / NAMES[10]).write_text("no image any more")
        (mine / NAMES[9]).rename(tmp_path / "moved.png")
        (mine / NAMES[8]).rename(mine / NAMES[9])
        (tmp_path / "moved.png").rename(mine / NAMES[8])
        ended = process.wait()
    statuses = records(ended)
    assert ended.code == 1 and "Traceback" not in ended.err
    assert [statuses[name] for name in NAMES[10:]] == ["failed", "failed"]
    assert "failed" not in [statuses[name] for name in NAMES[:10]]
    assert f"{NAMES[11]}: no such file" in ended.err and f"{NAMES[10]}: damaged" in ended.err
    results = contents(out)
    swapped = expected | {NAMES[8]: expected[NAMES[9]], NAMES[9]: expected[NAMES[8]]}
    assert results == {name: swapped[name] for name in NAMES[:10]}
    counts("restore: photographs that changed during the run", 4)


def test_an_output_folder_that_is_removed_during_the_run_is_noticed(
    photographs: Path, expected: dict[str, bytes], tmp_path: Path, counts: Counts
) -> None:
    out = tmp_path / "out"
    with Process(command(photographs, out, "--json")) as process:
        assert process.wait_until(lambda: (out / NAMES[2]).exists())
        out.rename(tmp_path / "removed")
        ended = process.wait()
    failed = [name for name, status in records(ended).items() if status == "failed"]
    lost = [name for name in failed if f"{out / name} was written, but is gone" in ended.err]
    assert ended.code == 1 and set(NAMES[:3]) <= set(lost) < set(NAMES)
    assert len(failed) - len(lost) <= 1, "the one that was being written then"
    assert sorted([*failed, *contents(out)]) == NAMES
    assert run(command(photographs, out, "--skip-existing")).code == 0
    assert contents(out) == expected
    counts("restore: lost results that were named", len(lost))


def test_an_output_folder_without_permission_is_named(
    photographs: Path, tmp_path: Path, counts: Counts
) -> None:
    with small_disk(tmp_path / "disk", size=10**6) as max_file_bytes:
        if max_file_bytes is None:
            subprocess.run(["mount", "-o", "remount,ro", str(tmp_path / "disk")], check=True)
        elif os.geteuid() == 0:
            pytest.skip("root may write everywhere, and mounting is not allowed")
        else:
            (tmp_path / "disk").chmod(0o555)
        for options in ((), ("--skip-existing",)):
            ended = run(command(photographs / NAMES[0], tmp_path / "disk", *options))
            assert ended.code == 1
            assert len(ended.err.splitlines()) == 1
            assert "Read-only file system" in ended.err or "Permission denied" in ended.err
        assert contents(tmp_path / "disk") == {}
    counts("restore: refused output folders", 2)


def test_two_processes_share_the_photographs_of_a_folder(
    photographs: Path, expected: dict[str, bytes], tmp_path: Path, counts: Counts
) -> None:
    out = tmp_path / "out"
    arguments = command(photographs, out, "--skip-existing", "--json")
    with Process(arguments) as first, Process(arguments) as second:
        ended = [first.wait(200), second.wait(200)]
    assert [one.code for one in ended] == [0, 0]
    statuses = [records(one) for one in ended]
    made = sorted(name for each in statuses for name, status in each.items() if status != "skipped")
    assert made == NAMES, "each photograph was restored once"
    assert contents(out) == expected
    counts("restore: photographs shared by two processes", len(made))


@pytest.mark.parametrize("closed", ["all output", "JSON"])
def test_a_closed_pipe_ends_the_run_early_and_quietly(
    closed: str, photographs: Path, expected: dict[str, bytes], tmp_path: Path, counts: Counts
) -> None:
    out = tmp_path / "out"
    options = () if closed == "all output" else ("--json",)
    stderr = subprocess.STDOUT if closed == "all output" else subprocess.PIPE
    arguments = [sys.executable, *command(photographs, out, *options)]
    with subprocess.Popen(
        arguments, env=child_environment(), stdout=subprocess.PIPE, stderr=stderr, text=True
    ) as process:
        assert process.stdout is not None
        rest = ""
        if closed == "all output":
            assert NAMES[0] in process.stdout.readline()
        process.stdout.close()
        if process.stderr is not None:
            rest = process.stderr.read()
        assert process.wait(200) == 141
    assert "Traceback" not in rest and "BrokenPipe" not in rest
    assert leftovers(out) == []
    number = check_results(out, expected)
    assert number < NUM_PHOTOGRAPHS if closed == "all output" else number == NUM_PHOTOGRAPHS
    counts("restore: runs whose output nobody read")


def _handles_sigterm(process: int) -> bool:
    status = Path(f"/proc/{process}/status").read_text()
    (mask,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(mask, 16) >> (signal.SIGTERM - 1) & 1)
