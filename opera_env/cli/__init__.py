"""The command ``opera-env``: one module for each subcommand."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

from opera_env.signals import (
    exit_process,
    run_command,
    signals_end_the_process,
    with_notes,
)

# Set before torch starts its threads: waiting threads sleep. Spinning threads cost ten times the work
# where another process wants a core.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

with signals_end_the_process():
    import tyro

    from opera_env import __version__
    from opera_env.cli.command import Command, format_error
    from opera_env.cli.notes import warnings_in_one_line
    from opera_env.cli.options.bench import BenchCommand
    from opera_env.cli.options.compare import Compare
    from opera_env.cli.options.demo import Demo
    from opera_env.cli.options.evaluate import Evaluate
    from opera_env.cli.options.fit_experience import FitExperience
    from opera_env.cli.options.hub import Hub
    from opera_env.cli.options.report import Report
    from opera_env.cli.options.restore import Restore
    from opera_env.cli.options.serve import Serve
    from opera_env.cli.options.serve_tool import ServeTool
    from opera_env.cli.options.study import StudyCommand
    from opera_env.cli.options.tools import Tools
    from opera_env.cli.options.weights import Weights
    from opera_env.cli.program import EXIT_FAILED, EXIT_USAGE
    from opera_env.command_line import parse_settings
    from opera_env.console import Console
    from opera_env.errors import OperaError, SettingError

Subcommand = (
    Annotated[Restore, tyro.conf.subcommand("restore")]
    | Annotated[Compare, tyro.conf.subcommand("compare")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[StudyCommand, tyro.conf.subcommand("study")]
    | Annotated[Report, tyro.conf.subcommand("report")]
    | Annotated[FitExperience, tyro.conf.subcommand("fit-experience")]
    | Annotated[BenchCommand, tyro.conf.subcommand("bench")]
    | Annotated[Tools, tyro.conf.subcommand("tools")]
    | Annotated[Serve, tyro.conf.subcommand("serve")]
    | Annotated[ServeTool, tyro.conf.subcommand("serve-tool")]
    | Annotated[Weights, tyro.conf.subcommand("weights")]
    | Annotated[Demo, tyro.conf.subcommand("demo")]
    | Annotated[Hub, tyro.conf.subcommand("hub")]
)

_DESCRIPTION = """Agentic image restoration as a reinforcement-learning problem.

opera-env restore holiday.jpg -o restored
    restores a photograph; `opera-env restore --help` has more examples, as has every subcommand.

opera-env --version
    prints the version.

Exit codes: 0 success, 1 something failed and was named, 2 the arguments are not valid, 130 interrupted, \
143 terminated, 141 the reader of the output has ended, as in `opera-env ... | head`.

`opera-env --tyro-print-completion bash` (or zsh) prints a completion script."""


def run() -> NoReturn:
    """The script ``opera-env``: runs the command line and ends the process with its exit code."""
    exit_process(main())


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code.

    Args:
        arguments: The arguments after ``opera-env``; by default those of the process.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    commands: list[Command] = []

    def run_subcommand() -> int:
        if words == ["--version"]:
            print(f"opera-env {__version__}")
            return 0
        commands.append(_parse(words))
        return commands[0].run()

    def report(error: Exception) -> int:
        """Prints an error in one line, with a hint if its class does not promise a clear one."""
        if commands and commands[0].debug:
            raise error
        is_clear = not commands or isinstance(error, OperaError | OSError)
        hint = "" if is_clear else " (--debug prints the traceback)"
        console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
        console.print(f"error: {with_notes(format_error(error), error)}{hint}", style="red")
        return EXIT_USAGE if isinstance(error, SettingError) else EXIT_FAILED

    with warnings_in_one_line():
        return run_command(run_subcommand, report)


def _parse(arguments: Sequence[str]) -> Command:
    return parse_settings(
        Subcommand,  # pyright: ignore[reportArgumentType] - tyro takes unions
        arguments,
        program="opera-env",
        description=_DESCRIPTION,
        paired_switches=False,
    )
