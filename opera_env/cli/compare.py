"""``opera-env compare``: agents on one benchmark, in a table."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from opera_env.cli.command import Command
from opera_env.data import Source, agenticir, bundled, clean_folder, paired
from opera_env.degradations import benchmark_recipes
from opera_env.errors import SampleError
from opera_env.evaluation.compare import EvaluationConfig, Record, compare_agents, summarise
from opera_env.files import atomic_write
from opera_env.tools import Toolbox
from opera_env.tools.device import resolve_device
from opera_env.types import Sample

AGENTS = (
    "untouched",
    "random",
    "fixed_order",
    "detect",
    "matched",
    "recipe_best",
    "planner",
    "greedy-blind",
    "greedy",
    "beam",
    "exhaustive",
)

_TOLD = ("matched", "recipe_best")
"""These are told the degradations."""

NEEDS_LITE_TOOLBOX = ("recipe_best", "planner")
"""These were made for the tools that come with the package."""


@dataclass(frozen=True)
class Compare(Command):
    """Compares agents on photographs and prints a table.

    Clean photographs are cropped, degraded by the benchmark's groups A, B, C in turn, mended
    by each agent, and judged against the original. Without --images they are the colour
    photographs that come with scikit-image.

    opera-env compare
        compares all agents.

    opera-env compare --images photos --n 48 --agents random,greedy,greedy-blind --json out.json
        takes a folder of clean photographs; "-blind" hides reference and labels from a search.

    opera-env compare --pairs LQ HQ --agents untouched,random,beam
        takes images that are degraded already, and their originals.
    """

    agents: str | None = None
    """Names, separated by commas, or module:attribute for one's own; all that suit by default."""
    toolbox: str = "lite"
    """A shipped toolbox, or a folder written by Toolbox.save."""
    images: Path | None = None
    """Folder of clean photographs."""
    pairs: tuple[Path, Path] | None = None
    """Two folders with equally named files, degraded and clean."""
    benchmark: Path | None = None
    """Folder in the layout of the AgenticIR benchmark (HQ/, LQ/d2/, LQ/d3/)."""
    n: int = 12
    """Number of samples; with fewer than 24 not every combination of the groups comes up."""
    seed: int = 0
    """Of crops, degradations, random agents and the bootstrap."""
    reward: str = "lite"
    """What counts as quality: lite, classic (needs no download), paper, release."""
    max_tools: int = 6
    """Longest plan."""
    tool_cost: float = 0.0
    """What a tool must earn."""
    samples: int = 1
    """How many plans the planner draws and tries for each image: the best by the reward, or, as
    planner-blind, by the critic."""
    canvas: int = 128
    """Side of the crops of clean photographs, a multiple of 4."""
    regret: bool = True
    """Search the best plan of each sample, to measure how far from it agents stay."""
    device: str = "auto"
    """cpu, cuda or auto."""
    json: Path | None = None
    """File for the results; the samples go into a .jsonl beside it."""

    def run(self) -> int:
        """Compares, prints and writes; returns the exit code."""
        console = Console()
        device = resolve_device(self.device)
        toolbox = Toolbox.load(self.toolbox, device)
        samples = self._samples()
        names = self._agents(samples, toolbox, console)
        config = EvaluationConfig(
            reward=self.reward,
            max_tools=self.max_tools,
            tool_cost=self.tool_cost,
            num_plans=self.samples,
            seed=self.seed,
            regret=self.regret,
        )
        start = time.perf_counter()
        columns = (
            TextColumn("{task.description:>18}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=Console(stderr=True)) as bars:
            tasks = {name: bars.add_task(name, total=len(samples)) for name in names}

            def progress(name: str, done: int, total: int) -> None:
                if name not in tasks:
                    tasks[name] = bars.add_task(name, total=total)
                bars.update(tasks[name], completed=done)

            comparison = compare_agents(names, samples, toolbox, config, progress)
        summary = summarise(comparison)
        summary["config"] |= {
            "agents": names,
            "toolbox": self.toolbox,
            "source": samples[0].spec.source,
            "seconds": time.perf_counter() - start,
            "device": device,
            "threads": torch.get_num_threads(),
            "versions": {name: version(name) for name in ("opera-env", "torch", "numpy", "pyiqa")},
            "depth": sorted({sample.depth for sample in samples if sample.depth}),
        }
        console.print(*_tables(summary))
        console.print(_footnote(summary), style="dim", highlight=False)
        if self.json is not None:
            _write(self.json, summary, comparison.records)
            console.print(f"written: {self.json} and {self.json.with_suffix('.jsonl')}")
        return 0

    def _samples(self) -> list[Sample]:
        given = [option for option in (self.images, self.pairs, self.benchmark) if option is not None]
        if len(given) > 1:
            raise SampleError("give one of --images, --pairs and --benchmark, not several.")
        if self.n < 1 or self.samples < 1:
            raise SampleError(f"--n and --samples must be at least 1, found {self.n} and {self.samples}.")
        source: Source
        if self.images is not None:
            source = clean_folder(self.images, self.canvas)
        elif self.pairs is not None:
            source = paired(*self.pairs)
        elif self.benchmark is not None:
            source = agenticir(self.benchmark)
        else:
            source = bundled(self.canvas)
        rng = np.random.default_rng(self.seed)
        return [source.make(spec) for spec in source.list_specs(self.n, benchmark_recipes(), rng)]

    def _agents(self, samples: Sequence[Sample], toolbox: Toolbox, console: Console) -> list[str]:
        if self.agents is not None:
            return list(dict.fromkeys(name.strip() for name in self.agents.split(",") if name.strip()))
        left_out: set[str] = set()
        if any(sample.degradations is None for sample in samples):
            console.print(f"left out: {', '.join(_TOLD)}; nobody knows the degradations of these images.")
            left_out.update(_TOLD)
        if self.toolbox != "lite" and toolbox.signature != Toolbox.load("lite").signature:
            console.print(
                f"left out: {', '.join(NEEDS_LITE_TOOLBOX)}; they were made for the tools of lite."
            )
            left_out.update(NEEDS_LITE_TOOLBOX)
        return [name for name in AGENTS if name not in left_out]


_NON_METRIC_KEYS = {"reward", "tools", "images_scored", "tools_run", "seconds", "regret", "errors"}


def _tables(summary: Mapping[str, Any]) -> Iterator[Table]:
    """Yields what agents earned and paid, then the metrics; each fits 80 columns."""
    agents: Mapping[str, Mapping[str, Any]] = summary["agents"]
    groups = sorted({group for row in summary["groups"].values() for group in row})
    config = summary["config"]
    title = f"{config['samples']} samples of {config['source']}, reward {config['reward']}"
    table = Table("agent", title=title, box=box.SIMPLE, padding=(0, 0, 0, 1), pad_edge=False)
    for column in ("reward (95 %)", *groups, "tools", "scored", "s", "regret"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, row in agents.items():
        reward = row["reward"]
        table.add_row(
            name,
            f"{reward['mean']:.2f} ({reward['low']:.2f}..{reward['high']:.2f})",
            *(f"{summary['groups'][name][group]:.2f}" for group in groups),
            f"{row['tools']:.1f}",
            str(row["images_scored"]),
            f"{row['seconds']:.0f}",
            "" if row["regret"] is None else f"{row['regret']:.2f}",
        )
    yield table
    metrics = [key for key in next(iter(agents.values())) if key not in _NON_METRIC_KEYS]
    table = Table("agent", box=box.SIMPLE, pad_edge=False)
    for metric in metrics:
        table.add_column(metric, justify="right")
    for name, row in agents.items():
        table.add_row(name, *(f"{row[key]:.{3 if abs(row[key]) < 2 else 2}f}" for key in metrics))
    yield table


def _footnote(summary: Mapping[str, Any]) -> str:
    config = summary["config"]
    lines = ["reward: R_q less tool cost, with a 95 % bootstrap interval over source images"]
    if config["frozen_set_size"] is not None:
        lines.append(f"regret: to the best of {config['frozen_set_size']:.0f} plans per sample")
    for pair in ("planner - detect", "planner - matched", "exhaustive - matched"):
        if pair in summary["differences"]:
            found = summary["differences"][pair]
            lines.append(
                f"{pair}: {found['mean']:+.2f} ({found['low']:+.2f} .. {found['high']:+.2f}), paired"
            )
    lines.append(f"{config['seconds']:.0f} s on {config['device']}, {config['threads']} threads")
    return "\n".join(lines)


def _write(path: Path, summary: Mapping[str, Any], records: Sequence[Record]) -> None:
    """Writes both files beside their names and renames them, so that neither is ever half there."""
    rows = "".join(json.dumps(record.to_json()) + "\n" for record in records)
    texts = {path.with_suffix(".jsonl"): rows, path: json.dumps(summary, indent=2) + "\n"}
    for target, text in texts.items():
        with atomic_write(target) as part:
            part.write_text(text)
