"""``opera-env compare``: compares agents on one benchmark."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from opera_env.cli.command import Command
from opera_env.cli.compare_report import comparison_tables, footnote
from opera_env.data import Source, agenticir, bundled, paired, resolve_source
from opera_env.degradations import benchmark_recipes
from opera_env.devices import resolve_device
from opera_env.errors import SampleError
from opera_env.evaluation.compare import Comparison, EvaluationConfig, Record, compare_agents
from opera_env.evaluation.report import summarise
from opera_env.evaluation.sheet import draw_sheet, write_sheet
from opera_env.files import atomic_write
from opera_env.tools import Toolbox
from opera_env.types import Sample

DEFAULT_AGENTS = (
    "untouched",
    "random",
    "fixed_order",
    "detect",
    "matched",
    "recipe_best",
    "planner",
    "ppo",
    "greedy-blind",
    "greedy",
)
"""The agents that are compared if none are named."""

SLOW_AGENTS = ("beam", "exhaustive")
"""These take minutes; ``--agents all`` adds them to the others."""

NEEDS_LABELS = ("matched", "recipe_best")
"""These are given the degradations of a sample."""

NEEDS_LITE_TOOLBOX = ("recipe_best", "planner", "ppo")
"""These were trained for the tools that come with the package."""

_SHEET = "results/compare-{number}.jpg"


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
    """Reward preset: lite, classic (needs no download), paper, release."""
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
        console = Console()
        self._check_options()
        device = resolve_device(self.device)
        toolbox = Toolbox.load(self.toolbox, device)
        samples = self._samples()
        names = self._agent_names(samples, toolbox, console)
        start = time.perf_counter()
        comparison = self._compare(names, samples, toolbox)
        summary = summarise(comparison)
        summary["config"] |= {
            "agents": names,
            "toolbox": self.toolbox,
            "source": samples[0].spec.source,
            "images": self._image_folders(),
            "canvas": self.canvas,
            "seconds": time.perf_counter() - start,
            "device": device,
            "threads": torch.get_num_threads(),
            "versions": _versions("opera-env", "torch", "numpy", "pyiqa"),
            "depth": sorted({sample.depth for sample in samples if sample.depth}),
        }
        # Files are written first, so that they are complete even if printing fails, as in a closed pipe.
        if self.json is not None:
            _write_results(self.json, summary, comparison.records)
        sheet = None if self.no_sheet else self.sheet or _free_sheet_path()
        if sheet is not None:
            write_sheet(draw_sheet(comparison, samples, toolbox), sheet)
        console.print(*comparison_tables(summary))
        console.print(footnote(summary), style="dim", highlight=False, markup=False, soft_wrap=True)
        paths = [] if self.json is None else [self.json, self.json.with_suffix(".jsonl")]
        for label, path in [("results", path) for path in paths] + ([("pictures", sheet)] if sheet else []):
            console.print(f"{label}: {path}", markup=False, highlight=False, soft_wrap=True)
        return 0

    def _check_options(self) -> None:
        given = [option for option in (self.images, self.pairs, self.benchmark) if option is not None]
        if len(given) > 1:
            raise SampleError("give one of --images, --pairs and --benchmark, not several.")
        numbers = {"--n": self.n, "--num-plans": self.num_plans, "--max-tools": self.max_tools}
        for option, number in numbers.items():
            if number < 1:
                raise SampleError(f"expected {option} of at least 1, found {number}.")
        if not abs(self.tool_cost) < float("inf"):
            raise SampleError(f"expected a finite number after --tool-cost, found {self.tool_cost}.")

    def _compare(self, names: Sequence[str], samples: Sequence[Sample], toolbox: Toolbox) -> Comparison:
        """Runs the agents under progress bars."""
        config = EvaluationConfig(
            reward=self.reward,
            max_tools=self.max_tools,
            tool_cost=self.tool_cost,
            num_plans=self.num_plans,
            seed=self.seed,
            regret=self.regret,
        )
        columns = (
            TextColumn("{task.description:>18}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=Console(stderr=True)) as progress_bar:
            tasks = {name: progress_bar.add_task(name, total=len(samples)) for name in names}

            def progress(name: str, done: int, total: int) -> None:
                if name not in tasks:
                    tasks[name] = progress_bar.add_task(name, total=total)
                progress_bar.update(tasks[name], completed=done)

            return compare_agents(names, samples, toolbox, config, progress)

    def _samples(self) -> list[Sample]:
        source: Source
        if self.images is not None:
            source = resolve_source(self.images, self.canvas)
        elif self.pairs is not None:
            source = paired(*self.pairs)
        elif self.benchmark is not None:
            source = agenticir(self.benchmark)
        else:
            source = bundled(self.canvas)
        has_own_recipes = self.images is not None and not Path(self.images).is_dir()
        recipes = None if has_own_recipes else benchmark_recipes()
        rng = np.random.default_rng(self.seed)
        return [source.make(spec) for spec in source.list_specs(self.n, recipes, rng)]

    def _image_folders(self) -> list[str] | None:
        """The folders that the images were read from, as they were named; None for the bundled ones."""
        folders = self.pairs or tuple(folder for folder in (self.images, self.benchmark) if folder)
        return [str(folder) for folder in folders] or None

    def _agent_names(self, samples: Sequence[Sample], toolbox: Toolbox, console: Console) -> list[str]:
        if self.agents not in (None, "all"):
            return list(dict.fromkeys(name.strip() for name in self.agents.split(",") if name.strip()))
        candidates = DEFAULT_AGENTS if self.agents is None else (*DEFAULT_AGENTS, *SLOW_AGENTS)
        excluded: set[str] = set()
        if any(sample.degradations is None for sample in samples):
            console.print(
                f"left out: {', '.join(NEEDS_LABELS)}; they need the degradations of the images, which are "
                "not known.",
                soft_wrap=True,
            )
            excluded.update(NEEDS_LABELS)
        if self.toolbox != "lite" and toolbox.signature != Toolbox.load("lite").signature:
            console.print(
                f"left out: {', '.join(NEEDS_LITE_TOOLBOX)}; they were made for the tools of lite.",
                soft_wrap=True,
            )
            excluded.update(NEEDS_LITE_TOOLBOX)
        return [name for name in candidates if name not in excluded]


def _versions(*packages: str) -> dict[str, str | None]:
    """Returns the version of each package; None for one that is not installed."""
    versions: dict[str, str | None] = {}
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return versions


def _free_sheet_path() -> Path:
    """Returns the first path for a picture sheet at which there is no file."""
    number = 1
    while (path := Path(_SHEET.format(number=number))).exists():
        number += 1
    return path


def _write_results(path: Path, summary: Mapping[str, Any], records: Sequence[Record]) -> None:
    """Writes the records and the summary; each file is complete or absent."""
    rows = "".join(json.dumps(record.to_json()) + "\n" for record in records)
    texts = {path.with_suffix(".jsonl"): rows, path: json.dumps(summary, indent=2) + "\n"}
    for target, text in texts.items():
        with atomic_write(target) as part:
            part.write_text(text)
