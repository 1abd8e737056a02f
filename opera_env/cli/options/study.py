"""The options of ``opera-env study``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from opera_env.cli.command import Command
from opera_env.errors import SettingError
from opera_env.settings import PositiveInt, Seed, check_settings
from opera_env.signals import signals_end_the_process


@dataclass(frozen=True)
class StudyCommand(Command):
    """Runs all plans of a few tools, and reports the effects of order, repetition and unmatched tools.

    opera-env study
        takes the paper's eight recipes, four tools and all 341 plans of up to four steps.

    opera-env study --images photos --recipes benchmark --max-length 3 --n 32
        takes the benchmark's sixteen recipes and a tool for every degradation.
    """

    toolbox: str = "lite"
    """A shipped toolbox, or a folder written by Toolbox.save."""
    tools: tuple[str, ...] = ()
    """Names of the tools, of which the first for each degradation takes part. By default the counterparts
    of the paper's four for its recipes, if the toolbox has them, and otherwise all tools."""
    images: str | None = None
    """Folder of clean photographs, or module:attribute, a source of your own; by default the photographs
    that come with scikit-image."""
    recipes: Literal["study", "benchmark"] = "study"
    """Recipes of degradations: those of the paper's study, or those of the benchmark."""
    reward: str = "lite"
    """Reward that R_q comes from: a preset, or module:attribute, a reward of your own."""
    max_length: PositiveInt = 4
    """Longest plan. N tools have N^length plans of the longest."""
    n: PositiveInt = 16
    """Number of samples; each recipe needs at least two photographs."""
    canvas: PositiveInt = 128
    """Side of the crops in pixels, a multiple of 4."""
    seed: Seed = 0
    """Seed of crops and degradations."""
    json: Path | None = None
    """File for the result. Until it is complete, a .partial file keeps the samples that are finished."""
    resume: bool = False
    """Continue an interrupted run from its .partial file."""
    force: bool = False
    """Replace an existing file of results."""
    ray: str | None = None
    """Run on a Ray cluster: its address, auto for the one of this machine, or local for processes on this
    machine."""
    ray_workers: PositiveInt | None = None
    """Number of worker processes; by default one for each free core."""
    trust_code: bool = False
    """Run what the toolbox folder names: code of your own (module:attribute), programs and served tools."""

    def __post_init__(self) -> None:
        check_settings(self)
        if self.resume and self.json is None:
            raise SettingError("resume", "", "--json with the file of the interrupted run")

    def run(self) -> int:
        """Runs the study, writes and prints; returns the exit code."""
        with signals_end_the_process():  # imports torch, which takes over a second
            from opera_env.cli.study import run

        return run(self)
