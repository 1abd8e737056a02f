"""Runs the examples, and writes the seconds of CPU time, what each prints and its pictures into their page.

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
import textwrap
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

from PIL import Image

from opera_env.cli.program import run_program
from opera_env.errors import SettingError
from opera_env.files import atomic_write

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"


@dataclass(frozen=True)
class ExampleSeconds:
    """Runs the examples and writes how long each takes and what it prints."""

    names: tuple[str, ...] = ()
    """Files of the folder examples, programs or notebooks; by default all."""
    page: Path = ROOT / "docs" / "examples.md"
    """Page whose table has a row for each example, with the seconds in the last column, and a heading for
    each program, under which its output is written."""
    figures: Path = ROOT / "docs" / "figures"
    """Folder for the pictures that examples write."""


@dataclass(frozen=True)
class Run:
    """What an example did."""

    seconds: float
    """CPU time of all its processes."""
    printed: str
    """What it printed, without the names of temporary folders and with long lines shortened."""
    pictures: tuple[Image.Image, ...]
    """The PNG files that it wrote into the current folder."""


def run_example(path: Path) -> Run:
    """Runs an example in a temporary folder.

    Raises:
        subprocess.CalledProcessError: If it fails.
    """
    notebook = [sys.executable, "-m", "pytest", "--nbmake", "--nbmake-timeout=3600", path.name]
    command = notebook if path.suffix == ".ipynb" else [sys.executable, str(path)]
    with TemporaryDirectory() as folder:
        shutil.copy(path, folder)  # a notebook writes where it lies
        before = os.times()
        done = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True)
        after = os.times()
        pictures = tuple(Image.open(file).convert("RGB") for file in sorted(Path(folder).glob("*.png")))
    lines = re.sub(rf"{re.escape(gettempdir())}/\S+", "FOLDER", done.stdout).splitlines()
    printed = "\n".join(shorten_line(line) for line in lines)
    return Run(sum(after[2:4]) - sum(before[2:4]), printed, pictures)


def shorten_line(line: str, width: int = 160) -> str:
    """Returns a line of an output, a long one on at most three lines that fit the page."""
    parts = [line] if len(line) <= width else textwrap.wrap(line, width - 4)
    return "\n".join(parts[:3]) + (" ..." if len(parts) > 3 else "")


def write_run(page: Path, name: str, run: Run) -> None:
    """Writes the seconds of an example into its row of the table, and its output under its heading.

    Raises:
        SettingError: If the page has no such row or no such heading.
    """
    row = re.compile(rf"^(\| \[`{re.escape(name)}`\].* \| )[^|]*( \|)$", re.MULTILINE)
    text, count = row.subn(rf"\g<1>{run.seconds:.0f}\g<2>", page.read_text(encoding="utf-8"))
    if count != 1:
        raise SettingError("page", page.name, f"one row about {name} in its table")
    if not name.endswith(".ipynb"):
        block = re.compile(rf"^### {re.escape(name)}\n+(```text\n.*?^```\n+)?", re.MULTILINE | re.DOTALL)
        written = f"### {name}\n\n```text\n{run.printed.rstrip()}\n```\n\n"
        text, count = block.subn(lambda _: written, text)
        if count != 1:
            raise SettingError("page", page.name, f"one heading {name}")
    with atomic_write(page) as partial:
        partial.write_text(text.rstrip("\n") + "\n", encoding="utf-8")


def run_examples(config: ExampleSeconds) -> None:
    """Runs the examples one after the other; each is written when it has ended."""
    paths = sorted([*EXAMPLES.glob("*.py"), *EXAMPLES.glob("*.ipynb")])
    for path in [EXAMPLES / name for name in config.names] or paths:
        run = run_example(path)
        print(f"{path.name}: {run.seconds:.1f} s", flush=True)
        for picture in run.pictures:
            with atomic_write(config.figures / f"{path.stem}.jpg") as partial:
                picture.save(partial, "JPEG", quality=90)
        write_run(config.page, path.name, run)


if __name__ == "__main__":
    run_program(ExampleSeconds, run_examples)
