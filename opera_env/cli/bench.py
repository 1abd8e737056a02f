"""``opera-env bench``: how fast this is on the machine at hand."""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from opera_env.bench import BENCHMARKS, STUDY_TOOLS, BenchmarkContext
from opera_env.cli.command import Command
from opera_env.devices import resolve_device
from opera_env.errors import BenchError
from opera_env.files import atomic_write
from opera_env.tools import Toolbox

BenchmarkName = Literal[
    "exhaustive", "group", "service", "vector", "overhead_ms", "large", "scaling", "cotraining"
]


@dataclass(frozen=True)
class BenchCommand(Command):
    """Measures plans a second, the vector environment, memory and growth, as ratios within one run.

    opera-env bench
        takes about a quarter of an hour on two cores; Gymnasium's processes need 20 GB of memory,
        and are left out where there is less.

    opera-env bench --only exhaustive scaling --json bench.json
        measures two parts and writes what was measured.

    opera-env bench --only group vector --tools all
        takes all tools of the toolbox.
    """

    only: tuple[BenchmarkName, ...] = ()
    """Parts to measure; all by default."""
    toolbox: str = "lite"
    """A shipped toolbox or a folder."""
    tools: tuple[str, ...] = STUDY_TOOLS
    """Which of its tools; "all" for all of them."""
    device: str = "auto"
    """cpu, cuda or auto."""
    seed: int = 0
    """Of samples and random plans."""
    quick: bool = False
    """Everything small: to see that it runs, not to believe the figures."""
    json: Path | None = None
    """File for the figures; parts that are in it already and are not measured again are kept. Its
    "runs" say with what each part was measured."""

    def run(self) -> int:
        """Measures, prints and writes; returns the exit code."""
        toolbox = Toolbox.load(self.toolbox, resolve_device(self.device))
        if self.tools != ("all",):
            toolbox = toolbox.subset(self.tools)
        known = self._known()
        console, progress = Console(highlight=False), Console(stderr=True, highlight=False)
        machine = _machine(toolbox)
        console.print(machine)
        run = {"machine": machine, "tools": list(toolbox.names), "seed": self.seed, "quick": self.quick}
        with progress.status("") as status:
            bench = BenchmarkContext(
                toolbox, self.toolbox, self.quick, self.seed, lambda what: status.update(what)
            )
            for name in self.only or BENCHMARKS:
                try:
                    known[name] = BENCHMARKS[name].measure(bench)
                except BenchError as error:
                    console.print(f"{name}: left out, {error}", markup=False)
                    continue
                console.print(_table(name, known[name]))
                known["runs"] = known.get("runs", {}) | {name: run}
                self._write(known)  # after every part: a later one's failure loses nothing
        if self.json is not None:
            console.print(f"written: {self.json}", markup=False, soft_wrap=True)
        return 0

    def _known(self) -> dict[str, Any]:
        """Reads what was measured before, ahead of the long wait."""
        if self.json is None or not self.json.exists():
            return {}
        try:
            known = json.loads(self.json.read_text())
        except ValueError:
            known = None
        if not isinstance(known, dict):
            raise BenchError(
                f"{self.json} is there and holds no figures of a benchmark: choose another name."
            )
        return known

    def _write(self, figures: dict[str, Any]) -> None:
        if self.json is not None:
            with atomic_write(self.json) as part:
                part.write_text(json.dumps(figures, indent=2) + "\n")


def _machine(toolbox: Toolbox) -> str:
    """The device by its own name, without the name of the computer."""
    if toolbox.device.type == "cuda":
        name = torch.cuda.get_device_name(toolbox.device)
    else:
        name = f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
    return f"{name}, torch {torch.__version__}"


def _table(name: str, result: Any) -> Table:
    table = Table(box=box.SIMPLE, pad_edge=False, padding=(0, 0, 0, 1))
    table.add_column(name)
    for column in ("measured", "target", ""):
        table.add_column(column, justify="right", no_wrap=True)
    for row in BENCHMARKS[name].report(result):
        mark = "" if not row.target else "met" if row.met else "missed"
        table.add_row(row.label, row.value, row.target, mark)
    return table
