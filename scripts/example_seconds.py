"""Runs the examples, and writes the seconds of CPU time that each takes into the table of their page.

CPU time is the sum over all threads and child processes; it hardly depends on what else the machine does.

Example:
    python scripts/example_seconds.py --names 01_gym_loop.py 14_minari.py
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from opera_env.cli.program import run_program
from opera_env.errors import SettingError
from opera_env.files import atomic_write

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"


@dataclass(frozen=True)
class ExampleSeconds:
    """Runs the examples and writes how long each takes."""

    names: tuple[str, ...] = ()
    """Files of the folder examples, programs or notebooks; by default all."""
    page: Path = ROOT / "docs" / "examples.md"
    """Page whose table has a row for each example, with the seconds in the last column."""


def cpu_seconds(path: Path) -> float:
    """Runs an example in a temporary folder; returns its seconds of CPU time.

    Raises:
        subprocess.CalledProcessError: If it fails.
    """
    notebook = [sys.executable, "-m", "pytest", "--nbmake", "--nbmake-timeout=3600", path.name]
    command = notebook if path.suffix == ".ipynb" else [sys.executable, str(path)]
    with TemporaryDirectory() as folder:
        shutil.copy(path, folder)  # a notebook writes where it lies
        before = os.times()
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        after = os.times()
    return sum(after[2:4]) - sum(before[2:4])


def write_seconds(page: Path, name: str, seconds: float) -> None:
    """Writes the seconds of an example into its row of the table.

    Raises:
        SettingError: If the page has no such row.
    """
    row = re.compile(rf"^(\| \[`{re.escape(name)}`\].* \| )[^|]*( \|)$", re.MULTILINE)
    text, count = row.subn(rf"\g<1>{seconds:.0f}\g<2>", page.read_text(encoding="utf-8"))
    if count != 1:
        raise SettingError("page", page.name, f"one row about {name} in its table")
    with atomic_write(page) as partial:
        partial.write_text(text, encoding="utf-8")


def run_examples(config: ExampleSeconds) -> None:
    """Runs the examples one after the other; each is written when it has ended."""
    paths = sorted([*EXAMPLES.glob("*.py"), *EXAMPLES.glob("*.ipynb")])
    for path in [EXAMPLES / name for name in config.names] or paths:
        seconds = cpu_seconds(path)
        print(f"{path.name}: {seconds:.1f} s", flush=True)
        write_seconds(config.page, path.name, seconds)


if __name__ == "__main__":
    run_program(ExampleSeconds, run_examples)
