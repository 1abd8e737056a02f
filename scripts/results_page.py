"""Writes docs/results.md from the files in results/.

It reads results/BENCHMARK/*.jsonl, and results/BENCHMARK/best/*.jsonl for the normalised scores.

Example:
    python scripts/results_page.py
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from opera_env.cli.program import run_program
from opera_env.evaluation.results_page import results_page
from opera_env.files import atomic_write


@dataclass(frozen=True)
class ResultsPage:
    """Writes the page of results."""

    results: Path = Path("results")
    """Folder of the results."""
    page: Path = Path("docs/results.md")
    """The page."""


def write(config: ResultsPage) -> None:
    """Reads the results and writes the page."""
    text = results_page(config.results)
    with atomic_write(config.page) as part:
        part.write_text(text)


if __name__ == "__main__":
    run_program(ResultsPage, write)
