"""Writes the file of a versioned benchmark.

Example:
    python scripts/make_benchmark.py --name OPERA-BSDS-v1 --hq bsds500/val --out OPERA-BSDS-v1.json
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from opera_env.cli.program import run_program
from opera_env.errors import OutputError, UnknownPresetError
from opera_env.evaluation.benchmarks import VERSIONS, BenchmarkOptions
from opera_env.evaluation.benchmarks.versioned import write_version


@dataclass(frozen=True)
class MakeBenchmark:
    """Writes the file of a versioned benchmark.

    A version never changes: whoever needs another one gives it a new name.
    """

    name: str
    """Name of the version."""
    out: Path
    """The file; one that exists is not replaced."""
    hq: Path | None = None
    """Folder of the clean photographs, if they are not bundled."""


def make(config: MakeBenchmark) -> None:
    """Draws the samples and writes the file."""
    if config.name not in VERSIONS:
        raise UnknownPresetError("version", config.name, tuple(VERSIONS))
    if config.out.exists():
        raise OutputError(f"{config.out} exists: choose another name, as a version never changes.")
    write_version(config.name, BenchmarkOptions(hq=config.hq), config.out)


if __name__ == "__main__":
    run_program(MakeBenchmark, make)
