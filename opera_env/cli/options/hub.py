"""The options of ``opera-env hub``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from opera_env.cli.command import Command
from opera_env.errors import SettingError
from opera_env.settings import PositiveFloat, check_settings
from opera_env.signals import signals_end_the_process

_EXPECTED = {"pull": ("OWNER/NAME",), "push": ("FOLDER", "OWNER/NAME")}


@dataclass(frozen=True)
class Hub(Command):
    """Pushes toolboxes, agents, critics and results to the Hugging Face hub, and pulls them.

    opera-env hub pull OWNER/NAME -o tools
        downloads a folder, checks its sizes and hashes, and prints how to use it.

    opera-env hub push runs/planner OWNER/NAME --private
        pushes the planner of a run, without its checkpoints and curves, with a page about it.

    Only safetensors and JSON files travel. The access token is that of `hf auth login`, or HF_TOKEN.
    """

    action: tyro.conf.Positional[Literal["pull", "push"]]
    """Action."""

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """pull: the repository. push: the folder, and the repository."""

    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """pull: folder to write to, which must be empty or absent. By default a folder of the cache."""

    revision: str | None = None
    """pull: branch, tag or commit. By default the main branch."""

    dataset: bool = False
    """pull: the repository is a dataset, as those of results are."""

    max_gigabytes: PositiveFloat = 8.0
    """pull: largest size of all files together."""

    private: bool = False
    """push: make a repository that does not exist private."""

    licence: str | None = None
    """push: identifier of the licence for the page, such as apache-2.0."""

    endpoint: str | None = None
    """Address of the hub. By default HF_ENDPOINT, or huggingface.co."""

    def __post_init__(self) -> None:
        check_settings(self)
        expected = _EXPECTED[self.action]
        if len(self.names) != len(expected):
            found = " ".join(self.names) or "none"
            raise SettingError("names", found, f"{' '.join(expected)} after {self.action}")

    def run(self) -> int:
        """Runs the action; returns the exit code."""
        with signals_end_the_process():  # imports torch, which takes over a second
            from opera_env.cli.hub import run

        return run(self)
