"""The helpers of this folder: a process that hangs, dies or fills a disk is seen as such."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.faults.conftest import Counts
from tests.faults.processes import OPERA_ENV, Process, random_moments, run, small_disk
from tests.faults.trainers import Inputs, Trainer


def test_a_process_is_seen_to_its_end(tmp_path: Path, counts: Counts) -> None:
    """The command that runs is the one of this tree."""
    program = "import opera_env, sys; print(opera_env.__file__); print('bad', file=sys.stderr); sys.exit(3)"
    ended = run(("-c", program), cwd=tmp_path)
    assert (ended.code, ended.err) == (3, "bad\n")
    assert Path(ended.out.strip()).is_relative_to(Path(__file__).parents[2])
    assert "restore" in run((*OPERA_ENV, "--help"), cwd=tmp_path).out
    counts("helpers: processes run to their end", 2)


def test_a_signal_reaches_a_process_after_its_marker(counts: Counts) -> None:
    program = "import time; print('ready', flush=True); time.sleep(60)"
    with Process(("-c", program)) as process:
        assert process.wait_for("ready")
        assert process.send(signal.SIGTERM, after=0.05)
        assert process.wait(20).code == -signal.SIGTERM
        assert not process.send(signal.SIGTERM)
    counts("helpers: processes ended by a signal")


@dataclass(frozen=True)
class Settings:
    """The settings of a trainer that does nothing."""

    out: Path
    """Folder of the run."""


def lose_a_signal(code: int, settings: Settings) -> None:
    arrived: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: arrived.append(number))
    settings.out.mkdir()
    while not arrived:
        time.sleep(0.002)
    if code:
        raise OSError("an error in its place")


@pytest.mark.parametrize("code", [0, 1])
def test_a_run_that_loses_a_signal_is_seen(code: int, tmp_path: Path) -> None:
    """It reports success, or an error of its own, although the signal has arrived before its end."""
    trainer = Trainer(Settings, partial(lose_a_signal, code), "")
    run = trainer.start(Inputs(tmp_path, tmp_path, tmp_path, tmp_path), tmp_path / "root")
    run.wait_for(run.out)
    assert run.send(signal.SIGTERM, after=0)
    assert (run.wait().code, run.has_received(signal.SIGTERM)) == (code, True)


def test_a_process_that_ends_or_hangs_is_not_waited_for_forever() -> None:
    with Process(("-c", "pass")) as process:
        assert not process.wait_for("ready")
    with Process(("-c", "import time; time.sleep(60)")) as process:
        with pytest.raises(TimeoutError):
            process.wait_for("ready", timeout=0.2)
        with pytest.raises(TimeoutError):
            process.wait(timeout=0.2)


def test_a_small_disk_is_full(tmp_path: Path) -> None:
    program = "import sys; open(sys.argv[1], 'wb').write(bytes(1000000))"
    with small_disk(tmp_path / "disk", 200_000) as max_file_bytes:
        target = tmp_path / "disk" / "large"
        ended = run(("-c", program, target), max_file_bytes=max_file_bytes)
        assert ended.code == 1
        assert "No space left" in ended.err or "File too large" in ended.err
    assert run(("-c", program, tmp_path / "large")).code == 0


def test_moments_cover_the_whole_time() -> None:
    moments = random_moments(seed=0, count=4, latest=2.0)
    assert moments == random_moments(seed=0, count=4, latest=2.0) != random_moments(1, 4, 2.0)
    assert [int(moment / 0.5) for moment in moments] == [0, 1, 2, 3]
