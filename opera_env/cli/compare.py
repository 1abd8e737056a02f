"""``opera-env compare``: compares agents on one benchmark."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch

from opera_env.cli.compare_files import ComparisonFiles
from opera_env.cli.compare_names import choose_agents
from opera_env.cli.compare_report import footnote, print_tables
from opera_env.cli.compare_samples import canvas_of, image_paths, make_samples
from opera_env.cli.options.compare import Compare
from opera_env.cli.outputs import progress_bars
from opera_env.cli.toolboxes import ToolboxLoader
from opera_env.console import Console
from opera_env.evaluation.compare import Comparison, EvaluationConfig, compare_agents
from opera_env.evaluation.partial import PartialResults
from opera_env.evaluation.report import summarise
from opera_env.evaluation.results import package_versions
from opera_env.evaluation.sheet import draw_sheet
from opera_env.tools import Toolbox
from opera_env.types import Sample


def run(options: Compare) -> int:
    """Compares, writes and prints; returns the exit code."""
    console = Console()
    files = ComparisonFiles(options)
    loader = ToolboxLoader(options)
    toolbox = loader.load(options.toolbox, options.trust_code)
    config = EvaluationConfig(
        reward=options.reward,
        max_tools=options.max_tools,
        tool_cost=options.tool_cost,
        num_plans=options.num_plans,
        budget=options.budget,
        seed=options.seed,
        regret=options.regret,
    )
    with progress_bars() as bars:
        task = bars.add_task("samples")
        samples = make_samples(
            options, console, lambda done, total: bars.update(task, completed=done, total=total)
        )
    has_labels = all(sample.degradations is not None for sample in samples)
    names = choose_agents(options.agents, options.toolbox, has_labels, toolbox, console)
    start = time.perf_counter()
    with files.partial(samples, toolbox, config) as partial:
        comparison = _compare(names, samples, toolbox, config, partial)
        summary = summarise(comparison)
        summary["config"] |= _provenance(options, samples, loader.device)
        summary["config"] |= {"agents": names, "seconds": time.perf_counter() - start}
        files.write_results(summary, comparison)
    # Files come before the tables, so that a closed pipe loses none; and an error in writing them comes
    # after, so that a full disk loses no table.
    if not options.no_sheet:
        files.write_sheet(draw_sheet(comparison, samples, toolbox), console)
    print_tables(console, summary)
    console.print(footnote(summary), style="dim", highlight=False, markup=False, soft_wrap=True)
    for path, content in files.written.items():
        console.print(f"{content}: {path}", markup=False, highlight=False, soft_wrap=True)
    if files.errors:
        raise files.errors[0]
    return 0


def _compare(
    names: Sequence[str],
    samples: Sequence[Sample],
    toolbox: Toolbox,
    config: EvaluationConfig,
    partial: PartialResults | None,
) -> Comparison:
    """Runs the agents under progress bars."""
    with progress_bars() as bars:
        tasks = {name: bars.add_task(name, total=len(samples), start=False) for name in names}

        def progress(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=total)
            bars.start_task(tasks[name])
            bars.update(tasks[name], completed=done)

        return compare_agents(names, samples, toolbox, config, progress, partial)


def _provenance(options: Compare, samples: Sequence[Sample], device: str) -> dict[str, Any]:
    """Returns what was compared on what, as the options name it, and with which versions."""
    return {
        "toolbox": options.toolbox,
        "source": samples[0].spec.source,
        "images": image_paths(options),
        "canvas": canvas_of(options),
        "n": options.n,
        "device": device,
        "precision": options.precision,
        "threads": torch.get_num_threads(),
        "versions": package_versions(),
        "depth": sorted({sample.depth for sample in samples if sample.depth}),
    }
