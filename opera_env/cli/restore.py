"""``opera-env restore``: photographs in, photographs out."""

from __future__ import annotations

import json
import shutil
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from opera_env.cli.command import Command, format_error
from opera_env.cli.jobs import Job, check_target, find_jobs, is_input, real_path
from opera_env.data.images import resize, to_pil
from opera_env.data.photo import Photo, format_from_name
from opera_env.data.read import read_photo, read_size
from opera_env.data.write import check_max_side, write_photo
from opera_env.envs.render import image_strip
from opera_env.errors import OutputError
from opera_env.files import atomic_create, atomic_write
from opera_env.plan import parse_plan
from opera_env.restoration import DEFAULT_TOOLBOX, Restoration, Restorer, RestorerConfig
from opera_env.tools import Toolbox
from opera_env.tools.device import resolve_device

_COMPARISON_MAX_HEIGHT, _COMPARISON_MAX_WIDTH = 720, 4096
"""Largest pictures in a strip of before and after, in pixels."""


@dataclass(frozen=True)
class Restore(Command):
    """Mends photographs.

    An agent looks at each photograph, plans which tools to apply, and the tools run on all of it.
    Format, EXIF, colour profile, transparency and bit depth are kept; no file is ever overwritten
    unless --force says so, and no photograph that is read, ever.

    opera-env restore holiday.jpg -o mended
        writes mended/holiday.jpg.

    opera-env restore photos "scans/**/*.tif" -o mended --compare
        restores a folder and all scans below another, with strips of before and after.

    opera-env restore night.png -o day.png --plan brighten.gamma_correction,unet.denoise
        applies a plan of one's own; `opera-env tools list` names the tools.

    opera-env restore small.jpg -o large.png --scale 4 --agent my_module:MyAgent
        enlarges, with a plan by an agent of one's own.
    """

    inputs: tyro.conf.Positional[tuple[str, ...]]
    """Files, folders, or patterns in quotes."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder for the results, or a file name for a single one."""
    agent: str = RestorerConfig.agent
    """Who plans: an agent's name, or module:attribute. Searches judge by no-reference metrics."""
    plan: str | None = None
    """Tools separated by commas, instead of an agent; "" only converts or enlarges."""
    scale: int = 1
    """How many times larger the result shall be."""
    toolbox: str = DEFAULT_TOOLBOX
    """A shipped toolbox, or a folder written by Toolbox.save."""
    format: Literal["keep", "png", "jpeg", "tiff", "webp", "bmp"] = "keep"
    """Format of the results; a file name after -o says it too."""
    quality: int = 95
    """Of JPEG and WebP files, 1 to 100."""
    compare: bool = False
    """Write NAME.compare.jpg beside each result: before, after, and the plan."""
    json: bool = False
    """Print what was done as JSON on standard output; all else goes to standard error."""
    force: bool = False
    """Replace results that are there."""
    skip_existing: bool = False
    """Leave out photographs whose result is there: goes on with a run that was interrupted."""
    max_tools: int = RestorerConfig.max_tools
    """Longest plan of an agent."""
    tool_cost: float = RestorerConfig.tool_cost
    """What a tool must earn for a search to take it, in points of a scale from 0 to 10."""
    samples: int = RestorerConfig.num_plans
    """How many plans the planner tries before a critic chooses among them and leaving the photograph alone;
    1 takes the most likely one unseen."""
    view: int = RestorerConfig.view
    """Side of the window, in pixels, that the agent plans on; 0 shows it the whole photograph."""
    max_memory: float | None = None
    """Memory to stay below, in GB; large photographs go through the tools in tiles. By default 2.5, or what
    a larger photograph needs if half of the free memory is enough."""
    device: str = "auto"
    """cpu, cuda or auto."""
    seed: int = 0
    """Of agents that draw."""

    def run(self) -> int:
        """Restores, prints and writes; returns the exit code."""
        console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
        self._check()
        device = resolve_device(self.device)
        toolbox = Toolbox.load(self.toolbox, device)
        wanted = None if self.format == "keep" else self.format.upper()
        jobs = find_jobs(self.inputs, self.out, wanted, self.compare)
        if not jobs:
            raise OutputError(f"no photographs in {', '.join(self.inputs)}")
        inputs = frozenset(real_path(job.source) for job in jobs)
        restorer = Restorer(toolbox, self._config(toolbox))
        records: list[dict[str, Any]] = []
        try:
            self._restore_all(jobs, inputs, restorer, console, records)
        finally:  # an interrupted run has done something too
            if self.json:
                print(self._report(records, toolbox))
        return _summary(console, records)

    def _restore_all(
        self,
        jobs: Sequence[Job],
        inputs: frozenset[Path],
        restorer: Restorer,
        console: Console,
        records: list[dict[str, Any]],
    ) -> None:
        """Restores one by one under a progress bar, and adds to the records what was done."""
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
            files = bars.add_task("photographs", total=len(jobs))
            tiles = bars.add_task("", total=None)

            def on_progress(name: str, done: int, total: int) -> None:
                bars.update(tiles, description=name, completed=done, total=total)

            restorer.on_progress = on_progress
            for job in jobs:
                bars.update(tiles, description=job.source.name, completed=0, total=None)
                records.append(self._one(job, inputs, restorer))
                console.print(_line(records[-1]))
                bars.advance(files)

    def _check(self) -> None:
        numbers = {
            "--scale of at least 1": self.scale >= 1,
            "--quality from 1 to 100": 1 <= self.quality <= 100,
            "--max-tools of at least 1": self.max_tools >= 1,
            "--samples of at least 1": self.samples >= 1,
            "--view of at least 0": self.view >= 0,
            "--max-memory above 0": self.max_memory is None or 0 < self.max_memory < float("inf"),
        }
        if wrong := [expected for expected, kept in numbers.items() if not kept]:
            raise OutputError(f"expected {', '.join(wrong)}")
        if self.plan is not None and self.agent != RestorerConfig.agent:
            raise OutputError("expected --agent or --plan, not both")
        if not self.inputs:
            raise OutputError("name files, folders or patterns to restore; --help has examples")

    def _config(self, toolbox: Toolbox) -> RestorerConfig:
        return RestorerConfig(
            agent=self.agent,
            plan=None if self.plan is None else parse_plan(self.plan, toolbox.names),
            scale=self.scale,
            max_tools=self.max_tools,
            tool_cost=self.tool_cost,
            num_plans=self.samples,
            view=self.view,
            max_memory=None if self.max_memory is None else int(self.max_memory * 1e9),
            seed=self.seed,
        )

    def _one(self, job: Job, inputs: frozenset[Path], restorer: Restorer) -> dict[str, Any]:
        """Restores one photograph; what goes wrong with it becomes part of the record."""
        record: dict[str, Any] = {"input": str(job.source), "output": str(job.target)}
        try:
            if self.skip_existing and job.target.is_file() and not is_input(job.target, job, inputs):
                return record | {"status": "skipped"}
            check_target(job, inputs, self.force, self.compare)
            height, width = read_size(job.source)
            restorer.check_size(height, width)  # from the file's head: too large a file is never decoded
            wanted = format_from_name(job.target) or format_from_name(job.source)
            if wanted is not None:
                check_max_side(job.target, wanted, (height * self.scale, width * self.scale))
            before = read_photo(job.source)
            result = restorer.restore(before.tensor())
            return record | self._write_result(job, before, result)
        except Exception as error:  # noqa: BLE001 - agents and tools are anybody's; the others are still wanted
            if self.debug:
                traceback.print_exc()
            return record | {"status": "failed", "error": _reason(job, error)}

    def _write_result(self, job: Job, before: Photo, result: Restoration) -> dict[str, Any]:
        """Writes the result, and the strip if it is wanted; returns what there is to say."""
        decision = result.decision
        wanted = format_from_name(job.target) or before.format
        after = replace(before.with_image(result.image), format=wanted)
        comparison = _draw_comparison(before, result) if self.compare else None
        if not decision.plan and self.scale == 1 and wanted == before.format:
            status, notices = "left as it was", ()  # the very file, not one coded anew
            with atomic_write(job.target) if self.force else atomic_create(job.target) as part:
                shutil.copyfile(job.source, part)
        else:
            status = "restored"
            notices = write_photo(job.target, after, self.quality, overwrite=self.force).notices
        if comparison is not None:
            write_photo(job.strip, comparison, overwrite=self.force)
        return {
            "status": status,
            "agent": None if self.plan is not None else self.agent,
            "plan": list(decision.plan),
            "seconds": [round(seconds, 4) for seconds in result.seconds],
            "planning_seconds": round(result.planning, 4),
            "size": [before.size[1], before.size[0]],
            "result_size": [after.size[1], after.size[0]],
            "reasoning": decision.reasoning,
            "degradations": None if decision.degradations is None else sorted(decision.degradations),
            "notices": list(notices),
        }

    def _report(self, records: Sequence[dict[str, Any]], toolbox: Toolbox) -> str:
        return json.dumps(
            {
                "toolbox": {
                    "name": self.toolbox,
                    "signature": toolbox.signature,
                    "fingerprint": toolbox.fingerprint,
                },
                "versions": {name: version(name) for name in ("opera-env", "torch")},
                "photographs": records,
            },
            indent=2,
            default=str,  # an agent may say anything
        )


def _draw_comparison(before: Photo, result: Restoration) -> Photo:
    """Draws before and after side by side, the plan above."""
    height, width = result.image.shape[-2:]
    shrink = min(1.0, _COMPARISON_MAX_HEIGHT / height, _COMPARISON_MAX_WIDTH / width)
    size = (max(1, round(height * shrink)), max(1, round(width * shrink)))
    plan = " > ".join(result.decision.plan) or "left as it was"
    pictures = [
        (caption, to_pil(resize(image[None], size)[0]))
        for caption, image in (("before", before.tensor()), (plan, result.image))
    ]
    grey = before.pixels.shape[2] == 1  # and so is its profile, while the strip has colours
    drawn = np.asarray(image_strip(pictures, size[0]))
    return Photo(drawn, format="JPEG", icc=None if grey else before.icc)


def _reason(job: Job, error: Exception) -> str:
    """Says in one line why a photograph failed, and which."""
    if isinstance(error, MemoryError):
        text = "does not fit into memory"
    elif isinstance(error, OSError) and error.strerror is not None:
        text = f"{error.filename2 or error.filename or job.target}: {error.strerror}"
    else:
        text = format_error(error)
    name = " ".join(str(job.source).splitlines())
    return text if text.startswith(f"{name}:") else f"{name}: {text}"


def _line(record: dict[str, Any]) -> str:
    """One photograph in one line: what became of it, by which tools, in how many seconds."""
    if record["status"] == "failed":
        return f"failed: {record['error']}"
    if record["status"] == "skipped":
        return f"{record['input']}: {record['output']} is there"
    tools = " > ".join(
        f"{name} {seconds:.1f} s" for name, seconds in zip(record["plan"], record["seconds"], strict=True)
    )
    width, height = record["size"]
    line = f"{record['input']} ({width} x {height}): {tools or record['status']} -> {record['output']}"
    if record["agent"] is not None:
        line += f"  [planned by {record['agent']} in {record['planning_seconds']:.1f} s]"
    if record["reasoning"]:
        line += f"\n  {' '.join(str(record['reasoning']).split())}"
    return line + "".join(f"\n  note: {notice}" for notice in record["notices"])


def _summary(console: Console, records: Sequence[dict[str, Any]]) -> int:
    """Names what has failed once more at the end; returns the exit code."""
    counts = {status: sum(record["status"] == status for record in records) for status in _STATUSES}
    if len(records) > 1:
        console.print(", ".join(f"{count} {status}" for status, count in counts.items() if count))
        for record in records:
            if record["status"] == "failed":
                console.print(f"  {record['error']}")
    return 1 if counts["failed"] else 0


_STATUSES = ("restored", "left as it was", "skipped", "failed")
