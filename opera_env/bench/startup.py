"""How long commands take to start, relative to the import of torch, which no computation can avoid."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from opera_env.bench.context import BenchmarkContext
from opera_env.data.images import to_pil
from opera_env.errors import BenchError

_NUM_REPEATS = 5

_CLI = ("-m", "opera_env")


def startup(bench: BenchmarkContext) -> dict[str, float]:
    """Measures the CPU seconds of new processes; those of other processes do not count.

    Raises:
        BenchError: If a command fails.
    """
    with tempfile.TemporaryDirectory(prefix="opera-env-") as folder:
        photograph = Path(folder) / "photograph.png"
        reference = bench.samples[0].reference
        assert reference is not None
        to_pil(reference).save(photograph)
        restore = ("restore", str(photograph), "-o", str(Path(folder) / "out"), "--force")
        commands: dict[str, Sequence[str]] = {
            "python": ("-c", "pass"),
            "import torch": ("-c", "import torch"),
            "import opera_env": ("-c", "import opera_env"),
            "gym.make": ("-c", "import gymnasium; gymnasium.make('opera_env:OPERA-Restore-v0')"),
            "opera-env --help": (*_CLI, "--help"),
            "opera-env restore --help": (*_CLI, "restore", "--help"),
            "opera-env restore": (*_CLI, *restore, "--device", str(bench.device)),
        }
        return measure_starts(commands, 1 if bench.quick else _NUM_REPEATS, bench)


def measure_starts(
    commands: Mapping[str, Sequence[str]], repeats: int, bench: BenchmarkContext | None = None
) -> dict[str, float]:
    """Returns the fewest CPU seconds of each command, by name.

    The commands take turns, so that all of them see the same state of the machine. A first run of each,
    which reads the files from the disk, does not count.

    Args:
        commands: Arguments of Python, by name.
        repeats: How often each is run.
        bench: Where progress is reported.

    Raises:
        BenchError: If a command fails.
    """
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(repeats + 1):
        for name, arguments in commands.items():
            if bench is not None:
                bench.progress(f"startup: {name}, run {number} of {repeats}")
            seconds[name].append(_cpu_seconds(arguments))
    return {name: min(values[1:]) for name, values in seconds.items()}


def _cpu_seconds(arguments: Sequence[str]) -> float:
    before = _children_seconds()
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    seconds = _children_seconds() - before
    if done.returncode != 0:
        last = (done.stderr.splitlines() or ["no message"])[-1]
        raise BenchError(f"{' '.join(arguments)} ended with exit code {done.returncode}: {last}")
    return seconds


def _children_seconds() -> float:
    """Returns the CPU seconds of all processes that this one has started and that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
