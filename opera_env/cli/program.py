"""Programs other than ``opera-env``, such as trainers: an error is one line and an exit code.

Example:
    if __name__ == "__main__":
        run_program(PlannerConfig, train)
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, NoReturn, TypeVar

import tyro

from opera_env.cli.command import format_error
from opera_env.command_line import parse_settings
from opera_env.console import Console
from opera_env.errors import OperaError, SettingError
from opera_env.signals import (
    exit_process,
    run_command,
    stops_explained,
)

EXIT_FAILED = 1
"""Exit code after an error."""
EXIT_USAGE = 2
"""Exit code if the arguments are not valid."""

ConfigT = TypeVar("ConfigT")


@dataclass(frozen=True)
class _Arguments(Generic[ConfigT]):
    config: Annotated[ConfigT, tyro.conf.arg(name="")]
    debug: bool = False
    """Print the traceback of an error."""


def run_program(config_type: type[ConfigT], main: Callable[[ConfigT], object]) -> NoReturn:
    """Runs a program from its command line, and ends the process with its exit code.

    Args:
        config_type: Dataclass of the settings; its fields and their docstrings are the command line.
        main: The program. If the settings have a field ``out``, the same command has to resume what the
            program was doing there when it was interrupted.
    """
    exit_process(program_code(config_type, main))


def program_code(
    config_type: type[ConfigT], main: Callable[[ConfigT], object], arguments: Sequence[str] | None = None
) -> int:
    """Runs a program from its command line; returns the exit code.

    Args:
        config_type: See :func:`run_program`.
        main: See :func:`run_program`.
        arguments: The arguments; by default those of the process.
    """
    parsed: list[_Arguments[Any]] = []

    def parse_and_run() -> None:
        description = config_type.__doc__
        parsed.append(parse_settings(_Arguments[config_type], arguments, description=description))
        out = getattr(parsed[0].config, "out", None)
        with nullcontext() if out is None else stops_explained(f"the same command resumes {out}"):
            main(parsed[0].config)

    def context() -> tuple[Path | None, bool]:
        if not parsed:
            return None, "--debug" in (sys.argv if arguments is None else arguments)
        return getattr(parsed[0].config, "out", None), parsed[0].debug

    return exit_code(parse_and_run, context)


def exit_code(
    main: Callable[[], Any], context: Callable[[], tuple[Path | None, bool]] = lambda: (None, False)
) -> int:
    """Runs a function; whatever ends it becomes a line on standard error and an exit code.

    Args:
        main: The function.
        context: Returns the file or folder that an error of the operating system concerns if it names none,
            or None; and whether errors are raised instead, with their traceback.

    Returns:
        0; 1 after an error; 2 after an error in a setting; and the codes of
        :func:`opera_env.signals.run_command`.
    """

    def run() -> None:
        main()

    def report(error: Exception) -> int:
        out, debug = context()
        if debug:
            raise error
        hint = "" if isinstance(error, OperaError | OSError) else " (--debug prints the traceback)"
        console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
        console.print(f"error: {format_error(error, out)}{hint}", style="red")
        return EXIT_USAGE if isinstance(error, SettingError) else EXIT_FAILED

    return run_command(run, report)
