"""What all subcommands have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from opera_env.errors import OperaError


@dataclass(frozen=True, kw_only=True)
class Command(ABC):
    """A subcommand: its fields are its options."""

    debug: bool = False
    """Show where in the code an error arose."""

    @abstractmethod
    def run(self) -> int:
        """Does it; returns the exit code."""


def format_error(error: BaseException) -> str:
    """Says in one line what went wrong: what we raise speaks for itself, other errors name their kind."""
    lines = (line.strip() for line in str(error).splitlines())
    reason = " ".join(line for line in lines if line) or "no message"
    return reason if isinstance(error, OperaError) else f"{type(error).__name__}: {reason}"
