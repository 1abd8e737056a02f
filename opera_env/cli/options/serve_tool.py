"""The options of ``opera-env serve-tool``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from opera_env.cli.command import Command
from opera_env.errors import SettingError
from opera_env.settings import NonNegativeInt, PositiveInt, Range, check_settings
from opera_env.signals import signals_end_the_process


@dataclass(frozen=True)
class ServeTool(Command):
    """Serves a network of your own on this machine, as a tool of toolboxes in other processes.

    opera-env serve-tool my_module:restore --port 8100 --identity weights-of-2026-01
        serves a function; toolbox.add("mine.net", "http://127.0.0.1:8100") adds it.

    opera-env serve-tool my_module:MyNet --options '{"width": 32}' --weights net.safetensors
        builds a module and serves it with these weights.

    An environment without opera-env needs torch, safetensors, starlette and uvicorn only: a copy of
    opera_env/tools/served/server.py serves there.
    """

    network: tyro.conf.Positional[str]
    """Function or module from images (B, 3, H, W) in [0, 1] to results, or a class of modules, as
    module:attribute."""
    port: Annotated[int, Range(0, 65535)] = 8100
    """Port; 0 for any that is free."""
    host: str = "127.0.0.1"
    """Address of this machine to serve at. Any other than the default may let other machines connect; a
    container whose port is forwarded needs 0.0.0.0."""
    options: str | None = None
    """Keyword arguments of a class or function, as a JSON object."""
    weights: Path | None = None
    """File of the weights of a module."""
    device: str = "auto"
    """Device of a module: cpu, cuda or auto. A function takes care of its device itself."""
    identity: str | None = None
    """What identifies the weights: change it whenever results change. By default the attribute `identity`
    of the network, a hash of the weights of a module, or the name of a function."""
    scale: Annotated[int, Range(1, 16)] = 1
    """Factor by which the network enlarges."""
    multiple: PositiveInt = 1
    """Heights and widths that the network takes are multiples of this number of pixels."""
    minimum: PositiveInt = 1
    """Smallest height and width that the network takes, in pixels."""
    halo: NonNegativeInt | None = None
    """Receptive-field radius in pixels, if it is known."""
    max_pixels: PositiveInt = 1024 * 1024
    """Largest number of pixels in a request, all images together. Larger images come in windows."""
    max_batch: NonNegativeInt = 0
    """Largest number of images in a call of the network; 0 is no limit."""

    def __post_init__(self) -> None:
        check_settings(self)
        self.keyword_arguments()

    def keyword_arguments(self) -> dict[str, Any]:
        """Returns the keyword arguments of the network.

        Raises:
            SettingError: If they are not a JSON object.
        """
        try:
            arguments = json.loads(self.options or "{}")
        except ValueError:
            arguments = None
        if not isinstance(arguments, dict):
            raise SettingError("options", repr(self.options), "a JSON object, such as '{\"width\": 32}'")
        return arguments

    def run(self) -> int:
        """Serves until the process is told to end; returns the exit code."""
        with signals_end_the_process():  # imports torch, which takes over a second
            from opera_env.cli.serve_tool import run

        return run(self)
