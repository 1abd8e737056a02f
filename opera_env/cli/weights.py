"""``opera-env weights``: weight files that do not come with this package."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import tyro
from rich.console import Console
from rich.table import Table

from opera_env import weights
from opera_env.cli.command import Command
from opera_env.errors import DownloadError

_COLOURS = {"present": "green", "missing": "yellow", "damaged": "red"}


@dataclass(frozen=True)
class Weights(Command):
    """Lists, fetches and verifies weight files that metrics need.

    opera-env weights list
        shows the known files, where they belong and whether they exist there.

    opera-env weights fetch lpips
        downloads a file, checks it and puts it where it belongs.

    opera-env weights verify
        ends with exit code 1 if a file is damaged, or if a named file is missing.
    """

    action: tyro.conf.Positional[Literal["list", "fetch", "verify"]] = "list"
    """Action."""

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """Names of the files; fetch needs at least one, the others take all files by default."""

    force: bool = False
    """Fetch files again that exist and are complete."""

    def run(self) -> int:
        """Runs the action and prints a table; returns the exit code."""
        selected = [weights.get_weight_file(name) for name in self.names] or list(weights.WEIGHT_FILES)
        if self.action == "fetch":
            return self._fetch()
        statuses: dict[str, weights.Status] = {
            weight.name: weights.status(weight.name) for weight in selected
        }
        _print_table(statuses)
        failing = ("damaged", "missing") if self.names else ("damaged",)
        return int(self.action == "verify" and any(status in failing for status in statuses.values()))

    def _fetch(self) -> int:
        console = Console(stderr=True, soft_wrap=True)
        if not self.names:
            names = ", ".join(weight.name for weight in weights.WEIGHT_FILES)
            console.print(f"expected names of files to fetch: {names}")
            return 2
        num_failed = 0
        for name in self.names:
            try:
                weights.fetch(name, force=self.force)
            except DownloadError as error:  # the other files are still fetched
                console.print(str(error), style="red", markup=False, highlight=False)
                num_failed += 1
        _print_table({name: weights.status(name) for name in self.names})
        return int(num_failed > 0)


def _print_table(statuses: dict[str, weights.Status]) -> None:
    table = Table("name", "status", box=None)
    table.add_column("where it belongs", overflow="fold")  # a path that is cut short is useless
    table.add_column("description")
    for name, status in statuses.items():
        weight = weights.get_weight_file(name)
        table.add_row(name, f"[{_COLOURS[status]}]{status}", str(weight.path), weight.description)
    Console().print(table)
