"""The options of ``opera-env demo``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from opera_env.cli.command import Command
from opera_env.settings import PositiveFloat, PositiveInt, Range, check_settings
from opera_env.signals import signals_end_the_process


@dataclass(frozen=True)
class Demo(Command):
    """Serves a page on this machine: restore photographs, compare agents, play by hand.

    opera-env demo
        prints the address, to be opened in a browser. Ctrl-C ends it and removes its files.

    opera-env demo --port 0 --max-megapixels 12
        takes any free port, and larger photographs.

    Chat agents use it too, by the Model Context Protocol at /gradio_api/mcp/, with the tools inspect,
    restore, apply_plan and undo. It needs pip install 'opera-env[demo,agents]'.
    """

    port: Annotated[int, Range(0, 65535)] = 7860
    """Port; 0 for any that is free."""
    host: str = "127.0.0.1"
    """Address of this machine to serve at. Any other than the default may let other machines connect, which
    can then have photographs restored and addresses fetched; there is no password."""
    device: str = "auto"
    """Device of the tools: auto, cpu, cuda or cuda:N."""
    max_megapixels: PositiveFloat = 4.0
    """Largest photograph that is accepted, in millions of pixels."""
    max_queue: PositiveInt = 16
    """Largest number of requests that wait; one runs at a time."""
    without_mcp: bool = False
    """Serve people only, not chat agents."""

    def __post_init__(self) -> None:
        check_settings(self)

    def run(self) -> int:
        """Serves until the process is told to end; returns the exit code."""
        with signals_end_the_process():  # imports torch, which takes over a second
            from opera_env.cli.demo import run

        return run(self)
