"""``opera-env restore``: restores photographs."""

from __future__ import annotations

import shutil
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from opera_env.cli.command import Command
from opera_env.cli.jobs import RestoreJob, check_target, find_jobs, is_input, real_path
from opera_env.cli.restore_report import (
    UNCHANGED,
    draw_comparison,
    format_failure,
    format_record,
    json_report,
    print_summary,
    restoration_record,
)
from opera_env.data.photo import Photo, format_from_name, suffix_notices
from opera_env.data.read import read_photo, read_size
from opera_env.data.write import check_max_side, write_photo
from opera_env.devices import resolve_device
from opera_env.errors import OutputError
from opera_env.files import atomic_create, atomic_write
from opera_env.plan import parse_plan
from opera_env.restoration import DEFAULT_TOOLBOX, Restoration, Restorer, RestorerConfig
from opera_env.tools import Toolbox


@dataclass(frozen=True)
class Restore(Command):
    """Restores photographs.

    An agent looks at each photograph and plans which tools to apply; the tools then run on all of it.
    For each photograph the command prints which degradations the agent sees, the plan, and why it was
    chosen or why the photograph is left unchanged. Format, EXIF, colour profile, transparency and bit
    depth are kept. No existing file is overwritten without --force, and an input never is.

    opera-env restore holiday.jpg -o restored
        writes restored/holiday.jpg.

    opera-env restore photos "scans/**/*.tif" -o restored --compare
        restores a folder and all scans below another, with pictures of before and after.

    opera-env restore night.png -o day.png --fix low_light,noise
        chooses the plan for degradations that you name, by the scores of a critic.

    opera-env restore night.png -o day.png --plan brighten.gamma_correction,unet.denoise
        applies a plan of your own; `opera-env tools list` names the tools.

    opera-env restore small.jpg -o large.png --scale 4 --agent my_module:MyAgent
        enlarges, with a plan by an agent of your own.
    """

    inputs: tyro.conf.Positional[tuple[str, ...]]
    """Files, folders, or patterns in quotes."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder for the results, or a file name for a single one."""
    agent: str = RestorerConfig.agent
    """Agent that plans: a name, name:FOLDER for a trained one, or module:attribute. Searches use a score
    that needs no reference."""
    fix: str | None = None
    """Degradations separated by commas, instead of an agent. Tools for these are tried in a fixed order,
    and a critic chooses among the results. The names are those of `opera-env tools list`, column "for"."""
    plan: str | None = None
    """Tools separated by commas, instead of an agent; "" only converts or enlarges."""
    scale: int = 1
    """How many times larger the result is than the photograph."""
    toolbox: str = DEFAULT_TOOLBOX
    """A shipped toolbox, or a folder written by Toolbox.save."""
    format: Literal["keep", "png", "jpeg", "tiff", "webp", "bmp"] = "keep"
    """Format of the results; the ending of a file name after -o chooses it too."""
    quality: int = 95
    """Quality of JPEG and WebP files, 1 to 100."""
    compare: bool = False
    """Write NAME.compare.jpg beside each result: before, after, and the plan."""
    json: bool = False
    """Print one JSON document on standard output: for each photograph the degradations with their
    probabilities, the plan, the reason, scores and seconds. All other output goes to standard error."""
    force: bool = False
    """Replace existing results."""
    skip_existing: bool = False
    """Leave out photographs whose result exists: this resumes an interrupted run."""
    max_tools: int = RestorerConfig.max_tools
    """Maximum number of tools in a plan."""
    tool_cost: float = RestorerConfig.tool_cost
    """Cost of a tool in points of the score, which goes from 0 to 10: a search applies a tool only if the
    score rises by more."""
    num_plans: int = RestorerConfig.num_plans
    """Number of plans that the planner samples; a critic chooses among them and the unchanged photograph.
    With 1 the most likely plan is applied without a critic."""
    window: int = RestorerConfig.window
    """Side, in pixels, of the window of the photograph that the agent plans on; 0 for all of it."""
    max_memory: float | None = None
    """Memory limit in GB; large photographs are processed in tiles. By default 2.5, or what a larger
    photograph needs if half of the free memory is enough."""
    device: str = "auto"
    """cpu, cuda or auto."""
    seed: int = 0
    """Seed of agents that sample."""

    def run(self) -> int:
        """Restores, prints and writes; returns the exit code."""
        console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
        self._check_options()
        toolbox = Toolbox.load(self.toolbox, resolve_device(self.device))
        output_format = None if self.format == "keep" else self.format.upper()
        jobs = find_jobs(self.inputs, self.out, output_format, self.compare)
        if not jobs:
            raise OutputError(f"no photographs in {', '.join(self.inputs)}")
        inputs = frozenset(real_path(job.input_path) for job in jobs)
        restorer = Restorer(toolbox, self._config(toolbox))
        records: list[dict[str, Any]] = []
        try:
            self._restore_all(jobs, inputs, restorer, console, records)
        finally:  # an interrupted run reports what it has done
            if self.json:
                print(json_report(records, toolbox, self.toolbox))
        return print_summary(console, records)

    def _restore_all(
        self,
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
                records.append(self._restore_one(job, inputs, restorer))
                console.print(format_record(records[-1]))
                progress.advance(files)

    def _check_options(self) -> None:
        conditions = {
            "--scale of at least 1": self.scale >= 1,
            "--quality from 1 to 100": 1 <= self.quality <= 100,
            "--max-tools of at least 1": self.max_tools >= 1,
            "--num-plans of at least 1": self.num_plans >= 1,
            "--window of at least 0": self.window >= 0,
            "--tool-cost to be a finite number": abs(self.tool_cost) < float("inf"),
            "--max-memory above 0": self.max_memory is None or 0 < self.max_memory < float("inf"),
        }
        if wrong := [expected for expected, holds in conditions.items() if not holds]:
            raise OutputError(f"expected {', '.join(wrong)}")
        plan_options = {
            "--agent": self.agent != RestorerConfig.agent,
            "--fix": self.fix is not None,
            "--plan": self.plan is not None,
        }
        if len(given := [option for option, is_given in plan_options.items() if is_given]) > 1:
            raise OutputError(f"expected one of --agent, --fix and --plan, not both {' and '.join(given)}")
        if self.fix is not None and not _names(self.fix):
            raise OutputError("expected names of degradations after --fix, such as low_light,noise")
        if not self.inputs:
            raise OutputError("name files, folders or patterns to restore; --help has examples")

    def _config(self, toolbox: Toolbox) -> RestorerConfig:
        return RestorerConfig(
            agent=self.agent,
            plan=None if self.plan is None else parse_plan(self.plan, toolbox.names),
            fix=_names(self.fix),
            scale=self.scale,
            max_tools=self.max_tools,
            tool_cost=self.tool_cost,
            num_plans=self.num_plans,
            window=self.window,
            max_memory=None if self.max_memory is None else int(self.max_memory * 1e9),
            seed=self.seed,
        )

    def _restore_one(self, job: RestoreJob, inputs: frozenset[Path], restorer: Restorer) -> dict[str, Any]:
        """Restores one photograph; a failure becomes part of its record."""
        record: dict[str, Any] = {"input": str(job.input_path), "output": str(job.output_path)}
        try:
            exists = self.skip_existing and job.output_path.is_file()
            if exists and not is_input(job.output_path, job, inputs):
                return record | {"status": "skipped"}
            check_target(job, inputs, self.force, self.compare)
            height, width = read_size(job.input_path)
            restorer.check_size(height, width)  # from the header: too large a file is never decoded
            output_format = format_from_name(job.output_path) or format_from_name(job.input_path)
            if output_format is not None:
                check_max_side(job.output_path, output_format, (height * self.scale, width * self.scale))
            before = read_photo(job.input_path)
            result = restorer.restore(before.tensor())
            return record | self._write_result(job, before, result)
        except Exception as error:  # noqa: BLE001 - any agent or tool may fail; the others are still restored
            if self.debug:
                traceback.print_exc()
            return record | {"status": "failed", "error": format_failure(job, error)}

    def _write_result(self, job: RestoreJob, before: Photo, result: Restoration) -> dict[str, Any]:
        """Writes the result, and the comparison if requested; returns the fields of the record."""
        # The name of a result decides its format: the result of a PNG file named a.jpg is a JPEG file.
        output_format = format_from_name(job.output_path) or before.format
        after = replace(before.with_image(result.image), format=output_format)
        comparison = draw_comparison(before, result) if self.compare else None
        if not result.decision.plan and self.scale == 1 and output_format == before.format:
            # The file is copied and not encoded again, so that nothing is lost.
            status, notices = UNCHANGED, suffix_notices(job.input_path, before.format)
            with atomic_write(job.output_path) if self.force else atomic_create(job.output_path) as part:
                shutil.copyfile(job.input_path, part)
        else:
            status = "restored"
            notices = write_photo(job.output_path, after, self.quality, overwrite=self.force).notices
        if comparison is not None:
            write_photo(job.comparison_path, comparison, overwrite=self.force)
        return {
            "status": status,
            "agent": None if self.plan is not None or self.fix is not None else self.agent,
            "fix": None if self.fix is None else list(_names(self.fix)),
            **restoration_record(result, before, after),
            "notices": list(notices),
        }


def _names(text: str | None) -> tuple[str, ...]:
    """Splits names at commas."""
    return tuple(dict.fromkeys(name.strip() for name in (text or "").split(",") if name.strip()))
