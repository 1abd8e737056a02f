"""``compare``, ``study`` and ``evaluate`` are interrupted, disturbed or short of space; nothing is lost."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from opera_baselines.recipe_best import PlanTable
from opera_env.cli.program import program_code
from opera_env.errors import OperaError, OutputError
from opera_env.evaluation.partial import partial_results
from opera_env.evaluation.results import read_results
from scripts.agent_report import ReportConfig, report
from tests.faults.conftest import Counts
from tests.faults.processes import (
    OPERA_ENV,
    Ended,
    Process,
    contents,
    leftovers,
    random_moments,
    run,
    small_disk,
)

CODES = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}
LINES = {signal.SIGTERM: "terminated", signal.SIGINT: "interrupted"}
AGENTS = "random,greedy,greedy-blind,fixed_order"
RECIPE_TABLE = Path(__file__).resolve().parents[2] / "baselines/opera_baselines/recipe_best.json"


@pytest.fixture(scope="module")
def photographs(
    tmp_path_factory: pytest.TempPathFactory, make_photograph: Callable[[int, int, int], Image.Image]
) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    for seed in range(4):
        make_photograph(96, 128, seed).save(folder / f"{seed}.png")
    return folder


def compare(photographs: Path, target: Path, *options: str) -> list[str]:
    """Returns the arguments of Python that compare agents; the searches take most of the time."""
    words = f"compare --images {photographs} --canvas 64 --n 8 --reward classic --max-tools 2 --seed 3"
    return [*OPERA_ENV, *words.split(), "--no-sheet", "--agents", AGENTS, "--json", str(target), *options]


def study(photographs: Path, target: Path, *options: str) -> list[str]:
    """Returns the arguments of Python that study plans, some seconds long."""
    words = f"study --images {photographs} --canvas 64 --n 16 --max-length 3"
    return [*OPERA_ENV, *words.split(), "--json", str(target), *options]


def evaluate(photographs: Path, target: Path, *options: str) -> list[str]:
    """Returns the arguments of Python that evaluate two agents on sixteen samples."""
    words = f"evaluate --benchmark groups-abc --hq {photographs} --canvas 64 --n 1 --reward classic"
    words += " --max-tools 1 --agents random,greedy"
    return [*OPERA_ENV, *words.split(), "--out", str(target), *options]


def partial_of(target: Path) -> Path:
    return target.with_name(f"{target.name}.partial")


def num_kept(target: Path) -> int:
    """Returns the number of results that are kept of an interrupted run."""
    path = partial_of(target)
    return max(0, path.read_bytes().count(b"\n") - 1) if path.exists() else 0


@pytest.fixture(scope="module")
def expected(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The records of an uninterrupted comparison."""
    target = tmp_path_factory.mktemp("expected") / "out.json"
    ended = run(compare(photographs, target))
    assert ended.code == 0, ended.err
    assert sorted(contents(target.parent)) == ["out.json", "out.jsonl"]
    return target.with_suffix(".jsonl").read_bytes()


def interrupt(
    command: list[str], target: Path, number: signal.Signals, after: float, at_least: int = 0
) -> Ended | None:
    """Sends a signal some seconds after the run has begun to keep results; None if it has ended before."""
    with Process(command) as process:
        process.wait_until(
            lambda: partial_of(target).exists() and num_kept(target) >= at_least, timeout=200
        )
        interrupted = process.send(number, after)
        ended = process.wait()
    assert "Traceback" not in ended.err
    assert leftovers(target.parent) == []
    return ended if interrupted else None


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (compare, "compare"),
        pytest.param(study, "study", marks=pytest.mark.needs_weights("lpips")),
        (evaluate, "evaluate"),
    ],
)
def test_a_run_that_is_interrupted_again_and_again_ends_like_an_uninterrupted_one(
    command: Callable[..., list[str]],
    name: str,
    photographs: Path,
    expected: bytes,
    tmp_path: Path,
    counts: Counts,
) -> None:
    """Each run continues the one before; an earlier result stays until the new one is complete."""
    target = tmp_path / "out.json"
    target.write_text("earlier")
    signals = np.random.default_rng(len(name)).permutation([signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
    for number, after in zip(map(signal.Signals, signals), random_moments(len(name), 3, 0.5), strict=True):
        kept = num_kept(target)
        options = ["--force", *(["--resume"] if kept else [])]
        ended = interrupt(command(photographs, target, *options), target, number, after, kept + 1)
        if ended is None or target.read_text() != "earlier":
            break  # all was done before the signal
        assert num_kept(target) > kept, "every run makes progress"
        assert ended.code == CODES[number]
        if number in LINES:
            hint = f"{partial_of(target)} keeps what is finished, --resume continues"
            assert ended.err.splitlines()[-1] == f"{LINES[number]}; {hint}"
        assert target.read_text() == "earlier"
        counts(f"{name}: runs ended by {number.name}")
    ended = run(command(photographs, target, "--force", "--resume"))
    assert ended.code == 0, ended.err
    assert not partial_of(target).exists()
    if command is compare:
        assert target.with_suffix(".jsonl").read_bytes() == expected
    elif command is evaluate:
        results = read_results(target)
        assert [result.agent for result in results] == ["random"] * 16 + ["greedy"] * 16
    else:
        assert json.loads(target.read_text())["samples"] == 16  # tests of the command compare all of it
    counts(f"{name}: complete results after interruptions")


def test_two_processes_do_not_write_the_same_results(
    photographs: Path, expected: bytes, tmp_path: Path, counts: Counts
) -> None:
    target = tmp_path / "out.json"
    with Process(compare(photographs, target)) as first:
        first.wait_until(lambda: partial_of(target).exists() and num_kept(target) >= 1, timeout=200)
        first.process.send_signal(signal.SIGSTOP)
        second = run(compare(photographs, target, "--force"))
        first.process.send_signal(signal.SIGCONT)
        ended = first.wait()
    assert second.code == 1
    assert second.err.splitlines()[-1].startswith(f"error: another process is writing {target}: ")
    assert ended.code == 0, ended.err
    assert target.with_suffix(".jsonl").read_bytes() == expected
    counts("compare: second processes refused")


def test_photographs_that_change_during_a_run_change_nothing(
    photographs: Path, expected: bytes, tmp_path: Path, counts: Counts
) -> None:
    """All samples are made first. A run that is resumed with other photographs is refused."""
    mine, target = (
        Path(shutil.copytree(photographs, tmp_path / photographs.name)),
        tmp_path / "out" / "out.json",
    )
    with Process(compare(mine, target)) as process:
        process.wait_until(lambda: num_kept(target) >= 1, timeout=200)
        (mine / "0.png").unlink()
        (mine / "1.png").write_bytes((mine / "2.png").read_bytes())
        (mine / "3.png").write_bytes(b"no photograph")
        process.send(signal.SIGINT)
        interrupted = process.wait()
    if interrupted.code == 130:
        (mine / "3.png").unlink()
        refused = run(compare(mine, target, "--resume"))
        assert refused.code == 1
        assert "of a run with other settings (samples)" in refused.err.splitlines()[-1]
        shutil.rmtree(mine)
        shutil.copytree(photographs, mine)
        ended = run(compare(mine, target, "--resume"))
        assert ended.code == 0, ended.err
        counts("compare: resumed runs with other photographs refused")
    assert target.with_suffix(".jsonl").read_bytes() == expected
    counts("compare: photographs changed during a run", 3)


def test_a_full_disk_is_named_and_leaves_no_half_written_file(
    photographs: Path, expected: bytes, tmp_path: Path, counts: Counts
) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk, 16_384) as max_file_bytes:
        target = disk / "out.json"
        ended = run(compare(photographs, target), max_file_bytes=max_file_bytes)
        assert ended.code == 1
        line = ended.err.splitlines()[-1]
        assert line.startswith(f"error: {partial_of(target)}: ") and (
            "No space" in line or "too large" in line
        )
        assert "Traceback" not in ended.err
        assert set(contents(disk)) <= {"out.json.partial"}
        kept = partial_of(target).read_bytes()
        assert kept.endswith(b"\n") and num_kept(target) >= 1
    target = tmp_path / "out.json"
    partial_of(target).write_bytes(kept)
    ended = run(compare(photographs, target, "--resume"))
    assert ended.code == 0, ended.err
    assert target.with_suffix(".jsonl").read_bytes() == expected
    counts("compare: full disks")


def test_results_outlive_a_reader_that_ends(photographs: Path, tmp_path: Path, counts: Counts) -> None:
    target = tmp_path / "out.json"
    with Process(compare(photographs, target, "--agents", "untouched,random"), stdout=-1) as process:
        assert process.process.stdout is not None
        process.process.stdout.close()
        ended = process.process.wait(200)
    assert ended == 141
    assert sorted(contents(tmp_path)) == ["out.json", "out.jsonl"]
    json.loads(target.read_text())
    counts("compare: outputs without a reader")


def mutations(data: bytes, seed: int, count: int) -> list[bytes]:
    """Returns damaged copies of a file: cut short, with flipped bits, without a part, and other content."""
    rng = np.random.default_rng(seed)
    damaged = [b"", b"null", b"[]", b"{}", b"\xff" * 100, b"[" * 50_000]
    while len(damaged) < count:
        start, length = int(rng.integers(len(data))), int(rng.integers(1, 40))
        copy = bytearray(data)
        match len(damaged) % 3:
            case 0:
                del copy[start:]
            case 1:
                copy[start] ^= 1 << int(rng.integers(8))
            case _:
                del copy[start : start + length]
        damaged.append(bytes(copy))
    return damaged


def test_damaged_partial_results_are_refused_or_right(tmp_path: Path, counts: Counts) -> None:
    """Whatever happens to the file, no value is ever another one."""
    target, settings = tmp_path / "out.json", {"seed": 3}
    values = {f"agent {number}": [number, {"r_q": number / 7}] for number in range(5)}
    with partial_results(target, settings) as partial:
        for key, value in values.items():
            partial.save(key, value)
    data, refused = partial_of(target).read_bytes(), 0
    damaged = mutations(data, seed=0, count=400)
    for copy in damaged:
        partial_of(target).write_bytes(copy)
        try:
            with partial_results(target, settings, resume=True) as partial:
                assert all(partial.get(key) in (None, value) for key, value in values.items())
        except OutputError as error:
            refused += 1
            assert str(error).startswith(str(partial_of(target))) and "\n" not in str(error)
    assert refused > len(damaged) // 4
    counts("compare: damaged partial results", len(damaged))


def test_damaged_records_and_tables_are_named_in_one_line(
    expected: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str], counts: Counts
) -> None:
    records, table = tmp_path / "out.jsonl", tmp_path / "recipe_best.json"
    damaged = mutations(expected, seed=1, count=60)
    for copy in damaged:
        records.write_bytes(copy)
        code = program_code(
            ReportConfig, report, [str(records), "--agent", "greedy", "--baseline", "random"]
        )
        printed = capfd.readouterr()
        assert code in (0, 1, 2)
        assert "Traceback" not in printed.err
        assert (printed.err.count("\n") == 1 and printed.err.startswith("error: ")) == (code > 0), (
            printed.err
        )
        assert "--debug" not in printed.err
    counts("agent_report: damaged records", len(damaged))
    damaged = mutations(RECIPE_TABLE.read_bytes(), seed=2, count=200)
    for copy in damaged:
        table.write_bytes(copy)
        try:
            PlanTable.read(table)
        except OperaError as error:
            assert str(table) in str(error) and "\n" not in str(error)
    counts("recipe_best: damaged tables", len(damaged))
