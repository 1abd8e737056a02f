"""Saves a toolbox in which some tools are those of another toolbox, with weights in half precision.

Example:
    python scripts/exchange_tools.py runs/cotrained/toolbox --tools brighten.gamma_correction \\
        --donor runs/adapted/toolbox --out runs/toolbox
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

from opera_env.cli.program import run_program
from opera_env.tools import Toolbox


@dataclass(frozen=True)
class ExchangeTools:
    """Takes some tools of a toolbox from another one, and saves the result; the order stays."""

    toolbox: tyro.conf.Positional[str]
    """A shipped toolbox, or a folder written by Toolbox.save."""
    tools: tuple[str, ...]
    """Names of the tools to exchange."""
    donor: str
    """The toolbox that they come from."""
    out: Path
    """Folder to write."""


def exchange(config: ExchangeTools) -> None:
    """Writes the toolbox; an unknown tool is an error of either toolbox."""
    toolbox, donor = Toolbox.load(config.toolbox), Toolbox.load(config.donor)
    exchanged = {toolbox[name].name: donor[name] for name in config.tools}
    # As the co-training trainer saves them, so that the files stay as small.
    Toolbox(exchanged.get(tool.name, tool) for tool in toolbox).save(config.out, torch.float16)


if __name__ == "__main__":
    run_program(ExchangeTools, exchange)
