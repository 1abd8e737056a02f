"""The options of ``opera-env weights``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from opera_env.cli.command import Command
from opera_env.errors import SettingError
from opera_env.signals import signals_end_the_process


@dataclass(frozen=True)
class Weights(Command):
    """Lists, fetches and verifies weight files of metrics and of the paper's tools.

    opera-env weights list
        shows the known files, where they belong and whether they exist there.

    opera-env weights fetch lpips
        downloads a file, checks it and puts it where it belongs.

    opera-env weights fetch paper
        downloads the official networks of the toolbox `paper`; their licences are printed first.

    opera-env weights fetch paper --from DIR
        takes them from a folder, for example those that can be downloaded by hand only.

    opera-env weights verify
        ends with exit code 1 if a file is damaged, or if a named file is missing.
    """

    action: tyro.conf.Positional[Literal["list", "fetch", "verify"]] = "list"
    """Action."""

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """Names of the files; fetch needs at least one, the others take all files by default. Also paper, the
    files of that toolbox, and metrics, those of the paper's metrics."""

    source: Annotated[Path | None, tyro.conf.arg(name="from", metavar="DIR")] = None
    """Take files of the toolbox paper from this folder and the folders below it, and download nothing."""

    force: bool = False
    """Fetch files again that exist and are complete."""

    def __post_init__(self) -> None:
        if self.source is not None and self.action != "fetch":
            raise SettingError("from", self.source, f"the action fetch, found {self.action}")
        if self.source is not None and not self.source.is_dir():
            raise SettingError("from", self.source, "an existing folder")

    def run(self) -> int:
        """Runs the action and prints a table; returns the exit code."""
        with signals_end_the_process():  # imports torch, which takes over a second
            from opera_env.cli.weights import run

        return run(self)
