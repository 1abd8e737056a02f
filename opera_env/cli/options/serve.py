"""The options of ``opera-env serve``."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from typing import Annotated

from opera_env.cli.command import Command
from opera_env.errors import SettingError
from opera_env.settings import NonNegativeFloat, PositiveFloat, PositiveInt, Range, check_settings
from opera_env.signals import signals_end_the_process


@dataclass(frozen=True)
class Serve(Command):
    """Serves scores: trainers in other processes and on other machines send plans or answers.

    Calls that come at about the same time are scored together, so that plans share their prefixes although
    a trainer scores one answer a call.

    opera-env serve --images photos --port 8200
        scores plans on crops of these photographs; opera_env.serving.client.ScoringClient is the client.

    OPERA_ENV_TOKEN=secret opera-env serve --images photos --host 0.0.0.0
        serves other machines too, which have to bring the token.
    """

    toolbox: str = "lite"
    """Name of a shipped toolbox, or a folder written by Toolbox.save."""
    reward: str = "lite"
    """Reward that R_q comes from: a preset, or module:attribute, a reward of your own."""
    images: str | None = None
    """Where samples come from: a folder of clean photographs; real:FOLDER, the same with damage as cameras
    make it; or module:attribute, a source of your own. By default the photographs of scikit-image."""
    canvas: PositiveInt = 128
    """Side of the square crops in pixels."""
    degradations: str | None = None
    """Custom degradations beside the built-in ones: module:attribute of one or a list, whose code runs."""
    port: Annotated[int, Range(0, 65535)] = 8200
    """Port; 0 for any that is free."""
    host: str = "127.0.0.1"
    """Address of this machine to serve at. Any other than the default may let other machines connect, and
    needs a token."""
    token_env: str = "OPERA_ENV_TOKEN"  # noqa: S105 - the name of a variable
    """Environment variable that holds the token. If it is set, every request has to bring the token."""
    max_tools: Annotated[int, Range(1, 100)] = 6
    """Maximum number of tools in a plan."""
    tool_cost: NonNegativeFloat = 0.0
    """Cost of each tool, in points of R_q."""
    gather_ms: NonNegativeFloat = 5.0
    """Time in milliseconds for which a call waits for others, to be scored with them."""
    max_batch: PositiveInt = 256
    """Number of plans at which a batch is scored without waiting longer."""
    max_queue: PositiveInt = 8192
    """Largest number of plans that wait; calls beyond it are refused with status 503."""
    max_sessions: PositiveInt = 1024
    """Largest number of open sessions; more are refused with status 429."""
    session_seconds: PositiveFloat = 900.0
    """Time in seconds after which a session that is not used is closed."""
    max_pixels: PositiveInt = 1024 * 1024
    """Largest number of pixels of the images in a request."""
    max_connections: PositiveInt = 1024
    """Largest number of connections; others are answered with status 503."""
    timeout: PositiveFloat = 300.0
    """Longest time in seconds that a request waits for its scores."""
    device: str = "auto"
    """cpu, cuda or auto."""
    trust_code: bool = False
    """Run what the toolbox folder names: code of your own (module:attribute), programs and served tools."""

    def __post_init__(self) -> None:
        check_settings(self)
        if self.token is None and not _is_loopback(self.host):
            raise SettingError("host", self.host, f"a token in the environment variable {self.token_env}")

    @property
    def token(self) -> str | None:
        """The token; None if there is none."""
        return os.environ.get(self.token_env) or None

    def run(self) -> int:
        """Serves until the process is told to end; returns the exit code."""
        with signals_end_the_process():  # imports torch, which takes over a second
            from opera_env.cli.serve import run

        return run(self)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
