"""The options of ``opera-env tools``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from opera_env.cli.command import Command
from opera_env.errors import SettingError
from opera_env.settings import Range, check_multiple, check_settings
from opera_env.signals import stops_explained
from opera_env.tool_training.config import PackConfig, TrainConfig


class _ToolsAction(ABC):
    """An action of ``opera-env tools``: its fields are its options."""

    @abstractmethod
    def run(self) -> int:
        """Runs the action; returns the exit code."""


@dataclass(frozen=True)
class ListTools(_ToolsAction):
    """Lists the tools of a toolbox, in the order in which actions count them.

    opera-env tools list
        shows the tools that come with opera-env.

    opera-env tools list --toolbox runs/toolbox --json
        prints those of a folder as JSON.
    """

    toolbox: str = "lite"
    """A shipped toolbox, or a folder written by Toolbox.save."""
    json: bool = False
    """Print JSON instead of a table."""
    trust_code: bool = False
    """Run what the toolbox folder names: code of your own (module:attribute), programs and served tools."""

    def run(self) -> int:
        from opera_env.cli.tools import list_tools  # imports torch, which takes over a second

        return list_tools(self)


@dataclass(frozen=True)
class ShowCard(_ToolsAction):
    """Prints the model card of a toolbox: the gain of each tool on each degradation, and the harm.

    opera-env tools card
        shows parameters, times, gains and misuse of the tools that come with opera-env.

    opera-env tools card --toolbox runs/toolbox --markdown
        prints the tables for a README.

    opera-env tools card --figure gains.png
        also draws the gain of every tool on every degradation.
    """

    toolbox: str = "lite"
    """A shipped toolbox, or a folder written by Toolbox.save and measured by `opera-env tools measure`."""
    json: bool = False
    """Print JSON instead of tables."""
    markdown: bool = False
    """Print tables in Markdown."""
    figure: Path | None = None
    """Draw the gains as a figure: PNG, SVG or PDF by the name."""
    trust_code: bool = False
    """Run what the toolbox folder names: code of your own (module:attribute), programs and served tools."""

    def __post_init__(self) -> None:
        if self.figure is not None and self.figure.suffix.lower() not in (".png", ".svg", ".pdf"):
            raise SettingError("figure", self.figure, "a name that ends in .png, .svg or .pdf")

    def run(self) -> int:
        from opera_env.cli.tools import show_card  # imports torch, which takes over a second

        return show_card(self)


@dataclass(frozen=True)
class Measure(_ToolsAction):
    """Measures each tool of a toolbox folder alone, and writes the results to the folder's manifest.

    opera-env tools measure runs/toolbox --images DIV2K/val
        takes minutes; `opera-env tools card --toolbox runs/toolbox` shows the result.
    """

    folder: tyro.conf.Positional[Path]
    """Toolbox folder; its weights are not changed."""
    images: Path
    """Folder of clean photographs that the tools were not trained on."""
    side: Annotated[int, Range(32, 4096)] = 128
    """Side of the centre crops that are used, in pixels, a multiple of 8."""
    degradations: str | None = None
    """Degradations on which every tool is measured, in place of the built-in ones: module:attribute of one
    or a list, such as opera_env.degradations.real:REAL_DEGRADATIONS."""
    trust_code: bool = False
    """Run what a toolbox folder names: code of your own (module:attribute), programs and served tools."""

    def __post_init__(self) -> None:
        check_settings(self)
        check_multiple("side", self.side, 8)

    def run(self) -> int:
        from opera_env.cli.tools import measure  # imports torch, which takes over a second

        return measure(self)


@dataclass(frozen=True)
class Train(TrainConfig, _ToolsAction):
    """Trains one tool of the lite toolbox.

    opera-env tools train unet.denoise --images DIV2K/train --val DIV2K/val
        trains a tool; the same command resumes an interrupted run.

    opera-env tools train unet.dehaze --images photos --val held-out --steps 50000
        trains for longer.

    opera-env tools train unet.derain --pool lite-adapted --images photos --val held-out
        trains on the benchmark's rain instead of data like those of the published networks.

    opera-env tools train unet.all_in_one --pool all-in-one --images photos --val held-out
        trains one network on all recipes of one to three degradations.
    """

    def run(self) -> int:
        from opera_env.tool_training.train import train

        with stops_explained(f"the same command resumes {self.out / self.tool}"):
            train(self)
        return 0


@dataclass(frozen=True)
class Pack(PackConfig, _ToolsAction):
    """Packs trained tools into a toolbox folder.

    opera-env tools pack --runs runs/lite --out runs/toolbox
        packs them as float16; compare and restore take the folder as --toolbox.

    opera-env tools pack --runs runs/lite --out runs/toolbox --base lite
        takes the tools that were not trained from the toolbox that comes with opera-env.
    """

    def run(self) -> int:
        from opera_env.tool_training.pack import pack

        pack(self)
        return 0


_ToolsSubcommand = (
    Annotated[ListTools, tyro.conf.subcommand("list")]
    | Annotated[ShowCard, tyro.conf.subcommand("card")]
    | Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Pack, tyro.conf.subcommand("pack")]
    | Annotated[Measure, tyro.conf.subcommand("measure")]
)


@dataclass(frozen=True)
class Tools(Command):
    """Lists the tools of a toolbox, prints their model card, and trains, packs and measures tools.

    opera-env tools list
        shows the tools that come with opera-env.

    opera-env tools card
        shows the gains and the harm of each of them.

    opera-env tools train unet.denoise --images DIR --val DIR
        trains one; `pack` then makes a toolbox, and `measure` its card.
    """

    action: Annotated[_ToolsSubcommand, tyro.conf.arg(name="")] = field(default_factory=ListTools)

    def run(self) -> int:
        """Runs the action; returns the exit code."""
        return self.action.run()
