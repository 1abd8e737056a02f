"""The base class of all subcommands, and the format of error messages."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from opera_env.console import escape_controls
from opera_env.errors import OperaError


@dataclass(frozen=True, kw_only=True)
class Command(ABC):
    """A subcommand: its fields are its options."""

    debug: bool = False
    """Print the traceback of an error."""

    @abstractmethod
    def run(self) -> int:
        """Runs the command; returns the exit code."""


def format_error(error: BaseException, path: Path | None = None) -> str:
    """Returns the message of an error in one line.

    The message of an :class:`opera_env.errors.OperaError` is complete. An error of the operating system
    is named with its file, and any other error with its class.

    Args:
        error: The error.
        path: The file that an error of the operating system concerns, if the error itself does not name it.
    """
    if isinstance(error, MemoryError):
        return "does not fit into memory"
    if isinstance(error, OSError) and error.strerror is not None:
        file = error.filename2 or error.filename or path
        return error.strerror if file is None else escape_controls(f"{file}: {error.strerror}")
    lines = (line.strip() for line in str(error).splitlines())
    message = " ".join(line for line in lines if line) or "no message"
    return escape_controls(
        message if isinstance(error, OperaError) else f"{type(error).__name__}: {message}"
    )
