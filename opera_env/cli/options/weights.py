"""The options of ``opera-env weights``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import tyro

from opera_env.cli.command import Command
from opera_env.signals import signals_end_the_process


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
        with signals_end_the_process():  # imports torch, which takes over a second
            from opera_env.cli.weights import run

        return run(self)
