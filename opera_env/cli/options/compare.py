"""The options of ``opera-env compare``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from opera_env.cli.command import Command
from opera_env.signals import signals_end_the_process


@dataclass(frozen=True)
class Compare(Command):
    """Compares agents on photographs; prints tables and writes a sheet of pictures.

    Clean photographs are cropped and degraded by the recipes of the benchmark's groups A, B and C in
    turn. Each agent restores all of them, and the results are scored with the clean crop as reference.
    Without --images the photographs are those that come with scikit-image.

    opera-env compare
        compares the default agents in about a minute.

    opera-env compare --agents all --regret
        adds beam and exhaustive search, and measures how far each agent stays below the best known plan.

    opera-env compare --images photos --n 48 --agents random,greedy,greedy-blind --json out.json
        takes a folder of clean photographs; "-blind" hides reference and labels from a search.

    opera-env compare --agents detect,planner,ppo:runs/ppo,my_module:MyAgent --sheet mine.jpg
        compares agents of your own with two others, and prints the paired differences.

    opera-env compare --images my_module:my_source --agents untouched,matched,greedy
        takes a source of your own, with your own degradations.

    opera-env compare --pairs LQ HQ --agents untouched,random,beam
        takes images that are degraded already, and their references.
    """

    agents: str | None = None
    """Names separated by commas: installed agents, name:FOLDER for trained ones, module:attribute for your
    own; "all" adds beam and exhaustive search to the default agents. Default agents that do not suit the
    samples or the toolbox are left out."""
    toolbox: str = "lite"
    """A shipped toolbox, or a folder written by Toolbox.save."""
    trust_code: bool = False
    """Run code that the toolbox folder names: networks of your own (module:attribute) and TorchScript."""
    images: str | None = None
    """Folder of clean photographs, or module:attribute, a source of your own with its own degradations and
    recipes."""
    pairs: tuple[Path, Path] | None = None
    """Two folders with equally named files, degraded and clean."""
    benchmark: Path | None = None
    """Folder in the layout of the AgenticIR benchmark (HQ/, LQ/d2/, LQ/d3/)."""
    n: int = 12
    """Number of samples; with fewer than 24 not every recipe of the groups occurs."""
    seed: int = 0
    """Seed of crops, degradations, random agents and the bootstrap."""
    reward: str = "lite"
    """Reward: a preset (lite, classic, paper, release; classic needs no download), or module:attribute, a
    reward of your own."""
    max_tools: int = 6
    """Maximum number of tools in a plan."""
    tool_cost: float = 0.0
    """Cost of each tool of a plan, in points of R_q."""
    num_plans: int = 1
    """Number of plans that the planner samples for each image. It keeps the best by the reward;
    planner-blind keeps the best by the critic."""
    canvas: int = 128
    """Side of the crops of clean photographs, in pixels, a multiple of 4."""
    regret: bool = False
    """Search the best plan of each sample, and report how far each agent stays below it. Takes minutes."""
    device: str = "auto"
    """cpu, cuda or auto."""
    json: Path | None = None
    """File for the results; the records of all samples are written to a .jsonl file beside it."""
    sheet: Path | None = None
    """File for the picture sheet: JPEG, or PNG by the name. By default results/compare-1.jpg, or the next
    number that is free."""
    no_sheet: tyro.conf.FlagCreatePairsOff[bool] = False
    """Write no picture sheet."""

    def run(self) -> int:
        """Compares, writes and prints; returns the exit code."""
        with signals_end_the_process():  # imports torch, which takes over a second
            from opera_env.cli.compare import run

        return run(self)
