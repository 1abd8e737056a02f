"""Fixtures: photographs in a folder, and the command that restores them; the one line of an error."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from opera_env.cli import main

Draw = Callable[[int, int, int], Image.Image]


@dataclass(frozen=True)
class RestoreRun:
    """Two photographs in a folder, and a folder for the results."""

    folder: Path
    out: Path

    def restore(self, *args: str, inputs: Sequence[Path] = ()) -> int:
        names = [str(path) for path in inputs or [self.folder]]
        return main(["restore", *names, "-o", str(self.out), *args])

    def report(self, *args: str, inputs: Sequence[Path] = ()) -> tuple[int, list[dict[str, Any]]]:
        """Restores, and returns the exit code and the records of the photographs."""
        with redirect_stdout(StringIO()) as printed:
            code = self.restore("--json", *args, inputs=inputs)
        return code, json.loads(printed.getvalue())["photographs"]

    def results(self) -> list[str]:
        """Returns the names of all files in the output folder, hidden ones included."""
        return sorted(path.name for path in self.out.iterdir()) if self.out.exists() else []


@pytest.fixture
def run(tmp_path: Path, make_photograph: Draw) -> RestoreRun:
    folder = tmp_path / "in"
    folder.mkdir()
    make_photograph(24, 32, 0).save(folder / "a.png")
    make_photograph(30, 20, 1).save(folder / "b.jpg", quality=92)
    return RestoreRun(folder, tmp_path / "out")


@pytest.fixture
def photographs(tmp_path: Path, make_photograph: Draw) -> Path:
    folder = tmp_path / "data" / "val"
    folder.mkdir(parents=True)
    for seed in range(2):
        make_photograph(128, 128, seed).save(folder / f"{seed}.png")
    return folder


def one_error(printed: pytest.CaptureFixture[str]) -> str:
    """Returns the line on standard error, which is all that was printed."""
    out, err = printed.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err
