"""``opera-env study``: how much planning can gain on an image."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
from rich import box
from rich.progress import Progress
from rich.table import Table

from opera_env.cli.options.study import StudyCommand
from opera_env.console import Console
from opera_env.data import resolve_source
from opera_env.degradations import STUDY_RECIPES, benchmark_recipes
from opera_env.evaluation.stats import format_interval
from opera_env.evaluation.study import StudyResult, run_study
from opera_env.files import atomic_write
from opera_env.tools import Toolbox

_METRICS = {"r_q": "R_q", "psnr_y": "PSNR-Y, dB", "ssim_y": "SSIM-Y"}


def run(options: StudyCommand) -> int:
    """Runs the study, writes and prints; returns the exit code."""
    source = resolve_source(options.images, options.canvas)
    recipes = STUDY_RECIPES if options.recipes == "study" else tuple(dict.fromkeys(benchmark_recipes()))
    specs = source.list_specs(options.n, recipes, np.random.default_rng(options.seed))
    samples = [source.make(spec) for spec in specs]
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("samples", total=len(samples))
        result = run_study(
            Toolbox.load(options.toolbox, trust_code=options.trust_code),
            samples,
            options.max_length,
            options.reward,
            progress=lambda done, total: bar.update(task, completed=done),
        )
    console = Console(highlight=False)
    if options.json is not None:
        with atomic_write(options.json) as part:
            part.write_text(json.dumps(result.to_json(), indent=2) + "\n")
    console.print(*_tables(result))
    if options.json is not None:
        console.print(f"results: {options.json}", markup=False, soft_wrap=True)
    return 0


def _tables(result: StudyResult) -> Iterator[Table]:
    """Yields the tables of the effects of the planning factors, then that of the consensus plans."""
    title = f"{result.plans} plans of {', '.join(result.tools)} on {result.samples} samples"
    for metric, label in _METRICS.items():
        table = Table(title=title, box=box.SIMPLE, pad_edge=False, padding=(0, 0, 0, 1))
        table.add_column(f"effect in {label}")
        for column in ("mean (95 %)", "median", "positive"):
            table.add_column(column, justify="right", no_wrap=True)
        digits = 3 if metric == "ssim_y" else 2
        for effect in result.effects:
            if effect.metric == metric:
                mean = format_interval(effect.mean, digits)
                table.add_row(effect.factor, mean, f"{effect.median:.{digits}f}", f"{effect.fraction:.0%}")
        yield table
        title = ""
    consensus = result.consensus
    table = Table("plans that are good by three of five metrics", box=box.SIMPLE, pad_edge=False)
    table.add_column("these", justify="right")
    table.add_column("all plans", justify="right")
    table.add_row("plans per image", f"{consensus.plans:.1f}", f"{result.plans}")
    table.add_row("repeat a tool", f"{consensus.repeats:.0%}", f"{consensus.baseline_repeats:.0%}")
    table.add_row(
        "have an unmatched tool", f"{consensus.unmatched:.0%}", f"{consensus.baseline_unmatched:.0%}"
    )
    table.add_row("plans above the best matched order", f"{consensus.plans_above_matched:.1f}", "")
    yield table
