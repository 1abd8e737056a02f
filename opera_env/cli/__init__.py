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

from opera_env.cli.compare import Compare
from opera_env.cli.weights import Weights
from opera_env.errors import OperaError

Command = (
    Annotated[Compare, tyro.conf.subcommand("compare")]
    | Annotated[Weights, tyro.conf.subcommand("weights")]
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code.

    Args:
        arguments: The words after ``opera-env``; those of the process by default.
    """
    command = tyro.cli(
        Command,  # pyright: ignore[reportArgumentType] - tyro takes unions
        prog="opera-env",
        description="Agentic image restoration as a reinforcement-learning problem.",
        args=arguments,
        config=(tyro.conf.CascadeSubcommandArgs,),
    )
    try:
        return command.run()
    except OperaError as error:
        Console(stderr=True).print(f"[bold red]error:[/] {error}", highlight=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
