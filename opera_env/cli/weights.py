"""``opera-env weights``: weight files that do not come with this package."""

from __future__ import annotations

from rich.table import Table

from opera_env import weights
from opera_env.cli.options.weights import Weights
from opera_env.console import Console
from opera_env.errors import DownloadError

_COLOURS = {"present": "green", "missing": "yellow", "damaged": "red"}


def run(options: Weights) -> int:
    """Runs the action and prints a table; returns the exit code."""
    selected = [weights.get_weight_file(name) for name in options.names] or list(weights.WEIGHT_FILES)
    if options.action == "fetch":
        return _fetch(options)
    statuses: dict[str, weights.Status] = {weight.name: weights.status(weight.name) for weight in selected}
    _print_table(statuses)
    failing = ("damaged", "missing") if options.names else ("damaged",)
    return int(options.action == "verify" and any(status in failing for status in statuses.values()))


def _fetch(options: Weights) -> int:
    console = Console(stderr=True, soft_wrap=True)
    if not options.names:
        names = ", ".join(weight.name for weight in weights.WEIGHT_FILES)
        console.print(f"expected names of files to fetch: {names}")
        return 2
    num_failed = 0
    for name in options.names:
        try:
            weights.fetch(name, force=options.force)
        except DownloadError as error:  # the other files are still fetched
            console.print(str(error), style="red", markup=False, highlight=False)
            num_failed += 1
    _print_table({name: weights.status(name) for name in options.names})
    return int(num_failed > 0)


def _print_table(statuses: dict[str, weights.Status]) -> None:
    table = Table("name", "status", box=None)
    table.add_column("where it belongs", overflow="fold")  # a path that is cut short is useless
    table.add_column("description")
    for name, status in statuses.items():
        weight = weights.get_weight_file(name)
        table.add_row(name, f"[{_COLOURS[status]}]{status}", str(weight.path), weight.description)
    Console().print(table)
