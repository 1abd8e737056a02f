"""The command ``opera-env``: one file a subcommand."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import tyro
from rich.console import Console

# Before torch starts its threads: those that wait shall sleep. Where another process wants a core,
# spinning makes everything ten times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from opera_env.cli.bench import BenchCommand
from opera_env.cli.command import Command, format_error
from opera_env.cli.compare import Compare
from opera_env.cli.restore import Restore
from opera_env.cli.study import StudyCommand
from opera_env.cli.tools import Tools
from opera_env.cli.weights import Weights
from opera_env.errors import OperaError

EXIT_INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


Subcommand = (
    Annotated[Restore, tyro.conf.subcommand("restore")]
    | Annotated[Compare, tyro.conf.subcommand("compare")]
    | Annotated[StudyCommand, tyro.conf.subcommand("study")]
    | Annotated[BenchCommand, tyro.conf.subcommand("bench")]
    | Annotated[Tools, tyro.conf.subcommand("tools")]
    | Annotated[Weights, tyro.conf.subcommand("weights")]
)

_DESCRIPTION = """Agentic image restoration as a reinforcement-learning problem.

opera-env restore holiday.jpg -o mended
    mends a photograph; `opera-env restore --help` has more examples, and so have the others.

Exit codes: 0 all is well, 1 something failed and was named, 2 the words make no command, 130 interrupted.
`opera-env --tyro-print-completion bash` (or zsh) prints a completion script."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code.

    Args:
        arguments: The words after ``opera-env``; those of the process by default.
    """
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    command: Command | None = None
    try:
        command = _parse(arguments)
        return command.run()
    except KeyboardInterrupt:
        console.print("interrupted")
        return EXIT_INTERRUPTED
    except Exception as error:
        if command is not None and command.debug:
            raise
        where = "" if command is None or isinstance(error, OperaError) else " (--debug shows where)"
        console.print(f"error: {format_error(error)}{where}", style="red")
    return 1


def _parse(arguments: Sequence[str] | None) -> Command:
    return tyro.cli(
        Subcommand,  # pyright: ignore[reportArgumentType] - tyro takes unions
        prog="opera-env",
        description=_DESCRIPTION,
        args=arguments,
        config=(tyro.conf.CascadeSubcommandArgs,),
    )


if __name__ == "__main__":
    sys.exit(main())
