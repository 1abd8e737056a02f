"""``opera-env bench``: the speed of the package on this machine."""

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
    """Measures plans per second, the vector environment, memory and scaling, as ratios within one run.

    opera-env bench
        takes about 15 minutes on two cores. The processes of Gymnasium's vector environment need 20 GB
        of memory and are left out where there is less.

    opera-env bench --only exhaustive scaling --json bench.json
        runs two of the benchmarks and writes the results.

    opera-env bench --only group vector --tools all
        uses all tools of the toolbox.
    """

    only: tuple[BenchmarkName, ...] = ()
    """Benchmarks to run; all by default."""
    toolbox: str = "lite"
    """A shipped toolbox, or a folder written by Toolbox.save."""
    tools: tuple[str, ...] = STUDY_TOOLS
    """Names of its tools to use; "all" for all of them."""
    device: str = "auto"
    """cpu, cuda or auto."""
    seed: int = 0
    """Seed of samples and random plans."""
    quick: bool = False
    """Use small inputs: this shows that the benchmarks run; the numbers mean nothing."""
    json: Path | None = None
    """File for the results. Results of other benchmarks that it holds already are kept. Its key "runs" says
    on which device and with which tools each benchmark was run."""

    def run(self) -> int:
        """Runs the benchmarks, prints and writes; returns the exit code."""
        toolbox = Toolbox.load(self.toolbox, resolve_device(self.device))
        if self.tools != ("all",):
            toolbox = toolbox.subset(self.tools)
        results = self._read_results()
        console, progress = Console(highlight=False), Console(stderr=True, highlight=False)
        machine = _describe_device(toolbox)
        console.print(machine)
        run = {"machine": machine, "tools": list(toolbox.names), "seed": self.seed, "quick": self.quick}
        with progress.status("") as status:
            bench = BenchmarkContext(
                toolbox, self.toolbox, self.quick, self.seed, lambda what: status.update(what)
            )
            for name in self.only or BENCHMARKS:
                try:
                    results[name] = BENCHMARKS[name].measure(bench)
                except BenchError as error:
                    console.print(f"{name}: left out, {error}", markup=False)
                    continue
                console.print(_table(name, results[name]))
                results["runs"] = results.get("runs", {}) | {name: run}
                self._write(results)  # after each benchmark, so that a later failure loses nothing
        if self.json is not None:
            console.print(f"results: {self.json}", markup=False, soft_wrap=True)
        return 0

    def _read_results(self) -> dict[str, Any]:
        """Reads the results of earlier runs, before anything is measured."""
        if self.json is None or not self.json.exists():
            return {}
        try:
            results = json.loads(self.json.read_text())
        except ValueError:
            results = None
        if not isinstance(results, dict):
            raise BenchError(
                f"{self.json} exists and holds no results of a benchmark: choose another name."
            )
        return results

    def _write(self, results: dict[str, Any]) -> None:
        if self.json is not None:
            with atomic_write(self.json) as part:
                part.write_text(json.dumps(results, indent=2) + "\n")


def _describe_device(toolbox: Toolbox) -> str:
    """Returns the name of the processor and the version of torch, without the name of the computer."""
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
        verdict = "" if not row.target else "met" if row.met else "missed"
        table.add_row(row.label, row.value, row.target, verdict)
    return table
