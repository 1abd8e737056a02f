"""``opera-env bench``: the speed of the package on this machine."""

from __future__ import annotations

import json
import platform
from typing import Any

import torch
from rich import box
from rich.table import Table

from opera_env.bench.benchmarks import BENCHMARKS
from opera_env.bench.context import BenchmarkContext
from opera_env.cli.options.bench import BenchCommand
from opera_env.cli.outputs import check_outputs
from opera_env.console import Console
from opera_env.devices import resolve_device
from opera_env.errors import BenchError
from opera_env.files import atomic_write
from opera_env.json_files import read_object
from opera_env.tools import Toolbox


def run(options: BenchCommand) -> int:
    """Runs the benchmarks, prints and writes; returns the exit code."""
    toolbox = Toolbox.load(options.toolbox, resolve_device(options.device), options.trust_code)
    if options.tools != ("all",):
        toolbox = toolbox.subset(options.tools)
    _read_results(options)  # a file that cannot be used is refused before anything is measured
    check_outputs({"--json": options.json}, force=True)
    console, progress = Console(highlight=False), Console(stderr=True, highlight=False)
    machine = _describe_device(toolbox)
    console.print(machine)
    run = {"machine": machine, "tools": list(toolbox.names), "seed": options.seed, "quick": options.quick}
    with progress.status("") as status:
        bench = BenchmarkContext(
            toolbox, options.toolbox, options.quick, options.seed, lambda what: status.update(what)
        )
        for name in options.only or BENCHMARKS:
            try:
                result = BENCHMARKS[name].measure(bench)
            except BenchError as error:
                console.print(f"{name}: left out, {error}", markup=False)
                continue
            _write(
                options, name, result, run
            )  # at once, so that neither a failure nor a closed pipe loses it
            console.print(_table(name, result))
    if options.json is not None:
        console.print(f"results: {options.json}", markup=False, soft_wrap=True)
    return 0


def _read_results(options: BenchCommand) -> dict[str, Any]:
    """Reads the results of earlier runs, or of another process that measures other benchmarks.

    Raises:
        BenchError: If the file holds something else.
    """
    if options.json is None or not options.json.exists():
        return {}
    remedy = "It holds no results of a benchmark: choose another name."
    results = read_object(options.json, BenchError, remedy)
    results.mapping("runs", default={})
    return dict(results.data)


def _write(options: BenchCommand, name: str, result: Any, run: dict[str, Any]) -> None:
    """Adds a result to the file."""
    if options.json is None:
        return
    results = _read_results(options)
    results = results | {name: result, "runs": results.get("runs", {}) | {name: run}}
    with atomic_write(options.json) as part:
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
