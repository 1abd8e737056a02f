"""The options of ``opera-env report``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from opera_env.cli.command import Command
from opera_env.errors import SettingError
from opera_env.settings import NonNegativeInt, PositiveInt, Seed, check_settings
from opera_env.signals import signals_end_the_process


@dataclass(frozen=True)
class Report(Command):
    """Writes a page about results and training runs: one HTML file that needs no network.

    It has tables to sort, quality against cost, which tool follows which, lengths and order of plans,
    images of the samples with the largest regret, and training curves.

    opera-env report results.jsonl -o report.html
        takes the results that `opera-env evaluate --out results.jsonl` wrote on the bundled photographs.

    opera-env report results.jsonl runs/planner runs/ppo --hq bsds500/val -o report.html
        adds the curves of two training runs; images come from the folder of the benchmark.
    """

    sources: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Files of results, and folders of training runs."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("report.html")
    """The page to write."""
    agent: str | None = None
    """The agent in focus, as the page names it; by default the best one that is given neither
    scores nor labels."""
    count: NonNegativeInt = 12
    """Number of samples with images; 0 runs no tools and needs no photographs."""
    hq: Path | None = None
    """Folder of clean photographs of the benchmark."""
    lq: Path | None = None
    """Folder of degraded photographs of the benchmark."""
    canvas: PositiveInt | None = None
    """Side of the crops in pixels, as in the evaluation."""
    depth: Path | None = None
    """Folder of depth maps for haze, as in the evaluation."""
    reward: str | None = None
    """Reward of the results, if it is one of your own (module:attribute): its code runs only if you name it
    here too."""
    toolboxes: str = ""
    """Folders of toolboxes that do not ship with the package, separated by commas."""
    protocol: str = "opera"
    """Protocol of the metrics: opera or agenticir."""
    title: str = "Agents for image restoration"
    """Title of the page."""
    seed: Seed = 0
    """Seed of the evaluation and of the bootstrap."""
    device: str = "auto"
    """Device of the tools: auto, cpu, cuda or cuda:N."""
    force: bool = False
    """Replace an existing page."""
    trust_code: bool = False
    """Run what a toolbox folder names: code of your own (module:attribute), programs and served tools."""

    def __post_init__(self) -> None:
        check_settings(self)
        if not self.sources:
            raise SettingError("sources", "nothing", "at least one file of results or folder of a run")

    def run(self) -> int:
        """Writes the page; returns the exit code."""
        with signals_end_the_process():  # imports torch, which takes over a second
            from opera_env.cli.report import run

        return run(self)
