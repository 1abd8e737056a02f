"""``opera-env restore``: restores photographs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from opera_env.cli.jobs import RestoreJob, find_jobs, real_path
from opera_env.cli.options.restore import Restore
from opera_env.cli.restore_photograph import PhotographRestorer
from opera_env.cli.restore_report import format_record, json_report, print_summary
from opera_env.cli.results import mark_removed, remove_all_leftovers
from opera_env.cli.toolboxes import ToolboxLoader
from opera_env.console import Console, escape_controls
from opera_env.errors import OutputError
from opera_env.plan import parse_plan
from opera_env.restoration import DEFAULT_AGENT, Restorer, RestorerConfig
from opera_env.signals import stops_explained
from opera_env.tools import Toolbox

_MANY_PLANS = 40
"""Number of plans for each photograph above which the command says before it starts that it takes long."""


_PLANS_PER_VARIANT = 3
"""Number of plans that an agent samples for each variant, since many samples are equal."""


def run(options: Restore) -> int:
    """Restores, prints and writes; returns the exit code."""
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    if not options.inputs:
        raise OutputError("name files, folders or patterns to restore; --help has examples")
    toolbox = ToolboxLoader(options).load(options.toolbox, options.trust_code)
    output_format = None if options.format == "keep" else options.format.upper()
    jobs = find_jobs(options.inputs, Path(options.out), output_format, options.compare, options.variants)
    restorer = Restorer(toolbox, _config(options, toolbox))
    if options.variants:
        restorer.require_scores(f"--variants {options.variants}")
    if restorer.max_plans is not None and restorer.max_plans > _MANY_PLANS:
        console.print(
            f"note: {restorer.config.agent} tries up to {restorer.max_plans:,} plans for each photograph, "
            "which takes long"
        )
    remove_all_leftovers(jobs)
    records: list[dict[str, Any]] = []
    try:
        with stops_explained("the same command with --skip-existing continues"):
            _restore_all(options, jobs, restorer, console, records)
    finally:  # an interrupted run reports what it has done
        removed = mark_removed(records)
        if options.json:
            print(json_report(records, toolbox, options.toolbox))
    for record in removed:
        console.print(format_record(record, options.explain, options.tool_cost))
    return print_summary(console, records)


def _restore_all(
    options: Restore,
    jobs: Sequence[RestoreJob],
    restorer: Restorer,
    console: Console,
    records: list[dict[str, Any]],
) -> None:
    """Restores one photograph after the other under a progress bar, and appends to ``records``."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    inputs = frozenset(real_path(job.input_path) for job in jobs)
    photographs = PhotographRestorer(options, restorer, inputs)
    hidden = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as progress:
        files = progress.add_task("photographs", total=len(jobs))
        tiles = progress.add_task("", total=None)

        def on_progress(name: str, done: int, total: int) -> None:
            progress.update(tiles, description=name, completed=done, total=total)

        restorer.on_progress = on_progress
        for job in jobs:
            name = escape_controls(job.input_path.name)
            progress.update(tiles, description=name, completed=0, total=None)
            records.append(photographs.restore(job))
            console.print(format_record(records[-1], options.explain, options.tool_cost))
            progress.advance(files)


def _config(options: Restore, toolbox: Toolbox) -> RestorerConfig:
    return RestorerConfig(
        agent=options.agent or DEFAULT_AGENT,
        plan=None if options.plan is None else parse_plan(options.plan, toolbox.names),
        fix=_names(options.fix),
        scale=options.scale,
        max_tools=options.max_tools,
        tool_cost=options.tool_cost,
        num_plans=max(options.num_plans, _PLANS_PER_VARIANT * options.variants),
        window=options.window,
        max_memory=None if options.max_memory is None else int(options.max_memory * 1e9),
        max_seconds=options.max_seconds,
        eager=options.eager,
        variants=options.variants,
        strength=None if isinstance(options.strength, str) else options.strength,
        seed=options.seed,
    )


def _names(text: str | None) -> tuple[str, ...]:
    """Splits names at commas."""
    return tuple(dict.fromkeys(name.strip() for name in (text or "").split(",") if name.strip()))
