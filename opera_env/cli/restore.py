"""``opera-env restore``: restores photographs."""

from __future__ import annotations

import shutil
import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from opera_env.cli.jobs import RestoreJob, check_target, find_jobs, is_input, real_path
from opera_env.cli.options.restore import Restore
from opera_env.cli.restore_report import (
    UNCHANGED,
    draw_comparison,
    format_failure,
    format_record,
    json_report,
    print_summary,
    restoration_record,
)
from opera_env.console import Console
from opera_env.data.photo import Photo, format_from_name, suffix_notices
from opera_env.data.read import read_photo, read_size
from opera_env.data.write import check_max_side, write_photo
from opera_env.devices import resolve_device
from opera_env.errors import OutputError
from opera_env.files import atomic_create, atomic_write
from opera_env.plan import parse_plan
from opera_env.restoration import Restoration, Restorer, RestorerConfig
from opera_env.tools import Toolbox


def run(options: Restore) -> int:
    """Restores, prints and writes; returns the exit code."""
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    _check_options(options)
    toolbox = Toolbox.load(options.toolbox, resolve_device(options.device))
    output_format = None if options.format == "keep" else options.format.upper()
    jobs = find_jobs(options.inputs, options.out, output_format, options.compare)
    if not jobs:
        raise OutputError(f"no photographs in {', '.join(options.inputs)}")
    inputs = frozenset(real_path(job.input_path) for job in jobs)
    restorer = Restorer(toolbox, _config(options, toolbox))
    records: list[dict[str, Any]] = []
    try:
        _restore_all(options, jobs, inputs, restorer, console, records)
    finally:  # an interrupted run reports what it has done
        if options.json:
            print(json_report(records, toolbox, options.toolbox))
    return print_summary(console, records)


def _restore_all(
    options: Restore,
    jobs: Sequence[RestoreJob],
    inputs: frozenset[Path],
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
    hidden = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as progress:
        files = progress.add_task("photographs", total=len(jobs))
        tiles = progress.add_task("", total=None)

        def on_progress(name: str, done: int, total: int) -> None:
            progress.update(tiles, description=name, completed=done, total=total)

        restorer.on_progress = on_progress
        for job in jobs:
            progress.update(tiles, description=job.input_path.name, completed=0, total=None)
            records.append(_restore_one(options, job, inputs, restorer))
            console.print(format_record(records[-1]))
            progress.advance(files)


def _check_options(options: Restore) -> None:
    conditions = {
        "--scale of at least 1": options.scale >= 1,
        "--quality from 1 to 100": 1 <= options.quality <= 100,
        "--max-tools of at least 1": options.max_tools >= 1,
        "--num-plans of at least 1": options.num_plans >= 1,
        "--window of at least 0": options.window >= 0,
        "--tool-cost to be a finite number": abs(options.tool_cost) < float("inf"),
        "--max-memory above 0": options.max_memory is None or 0 < options.max_memory < float("inf"),
    }
    if wrong := [expected for expected, holds in conditions.items() if not holds]:
        raise OutputError(f"expected {', '.join(wrong)}")
    plan_options = {
        "--agent": options.agent != RestorerConfig.agent,
        "--fix": options.fix is not None,
        "--plan": options.plan is not None,
    }
    if len(given := [option for option, is_given in plan_options.items() if is_given]) > 1:
        raise OutputError(f"expected one of --agent, --fix and --plan, not both {' and '.join(given)}")
    if options.fix is not None and not _names(options.fix):
        raise OutputError("expected names of degradations after --fix, such as low_light,noise")
    if not options.inputs:
        raise OutputError("name files, folders or patterns to restore; --help has examples")


def _config(options: Restore, toolbox: Toolbox) -> RestorerConfig:
    return RestorerConfig(
        agent=options.agent,
        plan=None if options.plan is None else parse_plan(options.plan, toolbox.names),
        fix=_names(options.fix),
        scale=options.scale,
        max_tools=options.max_tools,
        tool_cost=options.tool_cost,
        num_plans=options.num_plans,
        window=options.window,
        max_memory=None if options.max_memory is None else int(options.max_memory * 1e9),
        seed=options.seed,
    )


def _restore_one(
    options: Restore, job: RestoreJob, inputs: frozenset[Path], restorer: Restorer
) -> dict[str, Any]:
    """Restores one photograph; a failure becomes part of its record."""
    record: dict[str, Any] = {"input": str(job.input_path), "output": str(job.output_path)}
    try:
        exists = options.skip_existing and job.output_path.is_file()
        if exists and not is_input(job.output_path, job, inputs):
            return record | {"status": "skipped"}
        check_target(job, inputs, options.force, options.compare)
        height, width = read_size(job.input_path)
        restorer.check_size(height, width)  # from the header: too large a file is never decoded
        output_format = format_from_name(job.output_path) or format_from_name(job.input_path)
        if output_format is not None:
            check_max_side(job.output_path, output_format, (height * options.scale, width * options.scale))
        before = read_photo(job.input_path)
        result = restorer.restore(before.tensor())
        return record | _write_result(options, job, before, result)
    except Exception as error:  # noqa: BLE001 - any agent or tool may fail; the others are still restored
        if options.debug:
            traceback.print_exc()
        return record | {"status": "failed", "error": format_failure(job, error)}


def _write_result(options: Restore, job: RestoreJob, before: Photo, result: Restoration) -> dict[str, Any]:
    """Writes the result, and the comparison if requested; returns the fields of the record."""
    # The name of a result decides its format: the result of a PNG file named a.jpg is a JPEG file.
    output_format = format_from_name(job.output_path) or before.format
    after = replace(before.with_image(result.image), format=output_format)
    comparison = draw_comparison(before, result) if options.compare else None
    if not result.decision.plan and options.scale == 1 and output_format == before.format:
        # The file is copied and not encoded again, so that nothing is lost.
        status, notices = UNCHANGED, suffix_notices(job.input_path, before.format)
        with atomic_write(job.output_path) if options.force else atomic_create(job.output_path) as part:
            shutil.copyfile(job.input_path, part)
    else:
        status = "restored"
        notices = write_photo(job.output_path, after, options.quality, overwrite=options.force).notices
    if comparison is not None:
        write_photo(job.comparison_path, comparison, overwrite=options.force)
    return {
        "status": status,
        "agent": None if options.plan is not None or options.fix is not None else options.agent,
        "fix": None if options.fix is None else list(_names(options.fix)),
        **restoration_record(result, before, after),
        "notices": list(notices),
    }


def _names(text: str | None) -> tuple[str, ...]:
    """Splits names at commas."""
    return tuple(dict.fromkeys(name.strip() for name in (text or "").split(",") if name.strip()))
