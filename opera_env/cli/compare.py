"""``opera-env compare``: compares agents on one benchmark."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from opera_env.cli.compare_report import comparison_tables, footnote
from opera_env.cli.options.compare import Compare
from opera_env.console import Console
from opera_env.data import Source, agenticir, bundled, list_samples, paired, resolve_source
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


def run(options: Compare) -> int:
    """Compares, writes and prints; returns the exit code."""
    console = Console()
    _check_options(options)
    device = resolve_device(options.device)
    toolbox = Toolbox.load(options.toolbox, device, options.trust_code)
    samples = _samples(options)
    names = _agent_names(options, samples, toolbox, console)
    start = time.perf_counter()
    comparison = _compare(options, names, samples, toolbox)
    summary = summarise(comparison)
    summary["config"] |= {
        "agents": names,
        "toolbox": options.toolbox,
        "source": samples[0].spec.source,
        "images": _image_folders(options),
        "canvas": options.canvas,
        "seconds": time.perf_counter() - start,
        "device": device,
        "threads": torch.get_num_threads(),
        "versions": _versions("opera-env", "torch", "numpy", "pyiqa"),
        "depth": sorted({sample.depth for sample in samples if sample.depth}),
    }
    # Files are written first, so that they are complete even if printing fails, as in a closed pipe.
    if options.json is not None:
        _write_results(options.json, summary, comparison.records)
    sheet = None if options.no_sheet else options.sheet or _free_sheet_path()
    if sheet is not None:
        write_sheet(draw_sheet(comparison, samples, toolbox), sheet)
    console.print(*comparison_tables(summary))
    console.print(footnote(summary), style="dim", highlight=False, markup=False, soft_wrap=True)
    paths = [] if options.json is None else [options.json, options.json.with_suffix(".jsonl")]
    for label, path in [("results", path) for path in paths] + ([("pictures", sheet)] if sheet else []):
        console.print(f"{label}: {path}", markup=False, highlight=False, soft_wrap=True)
    return 0


def _check_options(options: Compare) -> None:
    given = [option for option in (options.images, options.pairs, options.benchmark) if option is not None]
    if len(given) > 1:
        raise SampleError("give one of --images, --pairs and --benchmark, not several.")
    numbers = {"--n": options.n, "--num-plans": options.num_plans, "--max-tools": options.max_tools}
    for option, number in numbers.items():
        if number < 1:
            raise SampleError(f"expected {option} of at least 1, found {number}.")
    if not abs(options.tool_cost) < float("inf"):
        raise SampleError(f"expected a finite number after --tool-cost, found {options.tool_cost}.")


def _compare(
    options: Compare, names: Sequence[str], samples: Sequence[Sample], toolbox: Toolbox
) -> Comparison:
    """Runs the agents under progress bars."""
    config = EvaluationConfig(
        reward=options.reward,
        max_tools=options.max_tools,
        tool_cost=options.tool_cost,
        num_plans=options.num_plans,
        seed=options.seed,
        regret=options.regret,
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


def _samples(options: Compare) -> list[Sample]:
    source: Source
    if options.images is not None:
        source = resolve_source(options.images, options.canvas)
    elif options.pairs is not None:
        source = paired(*options.pairs)
    elif options.benchmark is not None:
        source = agenticir(options.benchmark)
    else:
        source = bundled(options.canvas)
    has_own_recipes = options.images is not None and not Path(options.images).is_dir()
    recipes = None if has_own_recipes else benchmark_recipes()
    rng = np.random.default_rng(options.seed)
    return list(list_samples(source, options.n, recipes, rng))


def _image_folders(options: Compare) -> list[str] | None:
    """The folders that the images were read from, as they were named; None for the bundled ones."""
    folders = options.pairs or tuple(folder for folder in (options.images, options.benchmark) if folder)
    return [str(folder) for folder in folders] or None


def _agent_names(
    options: Compare, samples: Sequence[Sample], toolbox: Toolbox, console: Console
) -> list[str]:
    if options.agents not in (None, "all"):
        return list(dict.fromkeys(name.strip() for name in options.agents.split(",") if name.strip()))
    candidates = DEFAULT_AGENTS if options.agents is None else (*DEFAULT_AGENTS, *SLOW_AGENTS)
    excluded: set[str] = set()
    if any(sample.degradations is None for sample in samples):
        console.print(
            f"left out: {', '.join(NEEDS_LABELS)}; they need the degradations of the images, which are "
            "not known.",
            soft_wrap=True,
        )
        excluded.update(NEEDS_LABELS)
    if options.toolbox != "lite" and toolbox.signature != Toolbox.load("lite").signature:
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
