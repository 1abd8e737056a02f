"""``opera-env tools``: what is in a toolbox."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

import tyro
from rich import box
from rich.console import Console
from rich.table import Table

from opera_env.cli.command import Command
from opera_env.tools import Tool, Toolbox


@dataclass(frozen=True)
class Tools(Command):
    """Lists the tools of a toolbox, in the order in which actions count them.

    opera-env tools list
        shows the tools that come with opera-env.

    opera-env tools list --toolbox runs/toolbox --json
        prints those of a folder as JSON.
    """

    action: tyro.conf.Positional[Literal["list"]] = "list"
    """What to do."""
    toolbox: str = "lite"
    """A shipped toolbox, or a folder written by Toolbox.save."""
    json: bool = False
    """Print JSON instead of a table."""

    def run(self) -> int:
        """Prints the tools; returns the exit code."""
        toolbox = Toolbox.load(self.toolbox)
        rows = [_describe(tool) for tool in toolbox]
        if self.json:
            identity = {"signature": toolbox.signature, "fingerprint": toolbox.fingerprint}
            print(json.dumps({"toolbox": self.toolbox, **identity, "tools": rows}, indent=2))
            return 0
        table = Table(box=box.SIMPLE, padding=(0, 0, 0, 1))
        table.add_column("name", no_wrap=True)
        table.add_column("for", no_wrap=True)
        for column in ("params", "scale", "multiple", "halo"):
            table.add_column(column, justify="right", no_wrap=True)
        for row in rows:
            halo = (
                "?"
                if row["halo"] is None
                else f"{row['halo']}{' + all' if row['looks_everywhere'] else ''}"
            )
            size = f"{row['parameters']:,}", str(row["scale"]), str(row["multiple"]), halo
            table.add_row(row["name"], ", ".join(row["degradations"]), *size)
        console = Console(highlight=False, markup=False)
        console.print(f"{self.toolbox}, fingerprint {toolbox.fingerprint}", soft_wrap=True)
        console.print(table)
        return 0


def _describe(tool: Tool) -> dict[str, Any]:
    parameters = [] if tool.module is None else list(tool.module.parameters())
    return {
        "name": tool.name,
        "degradations": sorted(tool.degradations),
        "parameters": sum(parameter.numel() for parameter in parameters),
        "scale": tool.scale,
        "multiple": tool.multiple,
        "halo": tool.halo,
        "looks_everywhere": tool.looks_everywhere,
        "training": dict(tool.training),
    }
