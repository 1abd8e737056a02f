"""``opera-env study``: how much planning can gain on an image."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from rich import box
from rich.table import Table

from opera_env.cli.compare_samples import check_memory
from opera_env.cli.options.study import StudyCommand
from opera_env.cli.outputs import check_outputs, progress_bars, write_output
from opera_env.cluster import Cluster
from opera_env.console import Console
from opera_env.data import list_samples, resolve_source
from opera_env.degradations import STUDY_RECIPES, benchmark_recipes
from opera_env.evaluation.consensus import ConsensusPlans
from opera_env.evaluation.partial import PartialResults, digest_samples, partial_results
from opera_env.evaluation.stats import format_interval
from opera_env.evaluation.study import StudyResult, run_study
from opera_env.tool_training.lite_tools import STUDY_TOOLS
from opera_env.tools import Toolbox
from opera_env.types import Sample

METRICS = {
    "r_q": ("R_q", 2),
    "psnr_y": ("PSNR-Y, dB", 2),
    "ssim_y": ("SSIM-Y", 3),
    "lpips": ("LPIPS", 3),
    "niqe32": ("NIQE", 2),
    "piqe": ("PIQE", 2),
}
"""Titles of the metrics, and their number of digits."""


def run(options: StudyCommand) -> int:
    """Runs the study, writes and prints; returns the exit code."""
    check_outputs({"--json": options.json}, options.force)
    toolbox = choose_tools(Toolbox.load(options.toolbox, trust_code=options.trust_code), options)
    source = resolve_source(options.images, options.canvas)
    recipes = STUDY_RECIPES if options.recipes == "study" else tuple(dict.fromkeys(benchmark_recipes()))
    rng = np.random.default_rng(options.seed)
    check_memory(source, options.n, recipes)
    samples = list(list_samples(source, options.n, recipes, rng))
    with _partial_results(options, samples, toolbox) as partial:
        with progress_bars() as bars:
            task = bars.add_task("samples", total=len(samples))
            result = run_study(
                toolbox,
                samples,
                options.max_length,
                options.reward,
                progress=lambda done, total: bars.update(task, completed=done),
                partial=partial,
                cluster=None if options.ray is None else Cluster(options.ray, options.ray_workers),
            )
        if options.json is not None and partial is not None:
            with write_output(options.json, options.force) as part:
                part.write_text(json.dumps(result.to_json(), indent=2) + "\n")
            partial.is_complete = True
    console = Console(highlight=False)
    console.print(*_tables(result))
    if options.json is not None:
        console.print(f"results: {options.json}", markup=False, soft_wrap=True)
    return 0


def choose_tools(toolbox: Toolbox, options: StudyCommand) -> Toolbox:
    """Returns the tools that may take part in a study.

    Raises:
        UnknownToolError: If a tool is named that the toolbox does not have.
    """
    if options.tools:
        return toolbox.subset(options.tools)
    has_study_tools = options.recipes == "study" and set(STUDY_TOOLS) <= set(toolbox.names)
    return toolbox.subset(STUDY_TOOLS) if has_study_tools else toolbox


@contextmanager
def _partial_results(
    options: StudyCommand, samples: Sequence[Sample], toolbox: Toolbox
) -> Iterator[PartialResults | None]:
    """Yields what keeps the samples that are finished; None without a file for the result."""
    if options.json is None:
        yield None
        return
    settings = {
        "samples": digest_samples(samples),
        "toolbox": toolbox.fingerprint,
        "max_length": options.max_length,
        "reward": options.reward,
    }
    with partial_results(options.json, settings, resume=options.resume, force=options.force) as partial:
        yield partial


def _tables(result: StudyResult) -> Iterator[Table]:
    """Yields the tables of the effects of the planning factors, then that of the consensus plans."""
    title = f"{result.plans} plans of {', '.join(result.tools)} on {result.samples} samples"
    for metric, (label, digits) in METRICS.items():
        table = Table(title=title, box=box.SIMPLE, pad_edge=False, padding=(0, 0, 0, 1))
        table.add_column(f"effect in {label}")
        for column in ("mean (95 %)", "median", "positive"):
            table.add_column(column, justify="right", no_wrap=True)
        for effect in result.effects:
            if effect.metric == metric:
                mean = format_interval(effect.mean, digits)
                table.add_row(effect.factor, mean, f"{effect.median:.{digits}f}", f"{effect.fraction:.0%}")
        yield table
        title = ""
    yield _consensus_table(result)


@dataclass(frozen=True)
class ConsensusRow:
    """A row of the table of consensus plans.

    Attributes:
        label: What the figures are.
        consensus: The figure of the consensus plans; empty if it has none.
        all_plans: The figure of all plans; empty if it has none.
        paper: The paper's figure of its consensus plans or of all plans; empty if it has none.
    """

    label: str
    consensus: str
    all_plans: str
    paper: str


def consensus_rows(found: ConsensusPlans, num_plans: int) -> list[ConsensusRow]:
    """Returns what the consensus plans have in common, beside the figures of the paper's section 3."""
    return [
        ConsensusRow("plans per image", f"{found.plans:.1f}", f"{num_plans}", "12.1 of 340"),
        ConsensusRow("repeat a tool", _percent(found.repeats), _percent(found.baseline_repeats), "77.6 %"),
        ConsensusRow(
            "have an unmatched tool",
            _percent(found.unmatched),
            _percent(found.baseline_unmatched),
            "60.0 %",
        ),
        ConsensusRow("mean rank of those that repeat a tool", _rank(found.rank_repeated), "", "54.0"),
        ConsensusRow("mean rank without the repeats", _rank(found.rank_deduplicated), "", "65.3"),
        ConsensusRow("best rank with an unmatched tool", "", _rank(found.best_rank_unmatched), "34.9"),
        ConsensusRow("best rank of matched tools", "", _rank(found.best_rank_matched), "43.2"),
        ConsensusRow("images where the former is better", "", _percent(found.unmatched_better), "66.3 %"),
        ConsensusRow("plans above the best matched order", "", f"{found.plans_above_matched:.1f}", ""),
    ]


def _consensus_table(result: StudyResult) -> Table:
    """Returns the table of what the consensus plans have in common."""
    table = Table("plans that are good by three of five metrics", box=box.SIMPLE, pad_edge=False)
    for column in ("these", "all plans", "paper"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in consensus_rows(result.consensus, result.plans):
        table.add_row(row.label, row.consensus, row.all_plans, row.paper)
    return table


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"


def _rank(rank: float | None) -> str:
    return "-" if rank is None else f"{rank:.1f}"
