"""``opera-env tools``: lists, measures, trains and packs the tools of a toolbox."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich import box
from rich.table import Table

from opera_env.cli.command import Command
from opera_env.console import Console
from opera_env.data.images import list_images, read_images
from opera_env.degradations import DEGRADATIONS
from opera_env.tool_training.measurement import measure_tools
from opera_env.tool_training.model_card import ToolCard, plot_gains, read_card
from opera_env.tool_training.pack import PackConfig, pack
from opera_env.tool_training.pools import Pool, pool_specs
from opera_env.tool_training.train import TrainConfig, train
from opera_env.tools import Tool, Toolbox
from opera_env.tools.manifest import write_measurements

_SHORT_LABELS = {
    "low_light": "dark",
    "motion_blur": "motion",
    "defocus_blur": "focus",
    "low_resolution": "x4",
}
"""Short names of degradations, with which eight columns fit into a terminal."""


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

    def run(self) -> int:
        toolbox = Toolbox.load(self.toolbox)
        rows = [_tool_record(tool) for tool in toolbox]
        if self.json:
            print(json.dumps({"toolbox": self.toolbox, **_toolbox_ids(toolbox), "tools": rows}, indent=2))
            return 0
        table = _table(("name", "for"), ("params", "scale", "multiple", "halo"))
        for row in rows:
            halo = (
                "?"
                if row["halo"] is None
                else f"{row['halo']}{' + all' if row['uses_global_context'] else ''}"
            )
            size = f"{row['parameters']:,}", str(row["scale"]), str(row["multiple"]), halo
            table.add_row(row["name"], ", ".join(row["degradations"]), *size)
        console = Console(highlight=False, markup=False)
        console.print(f"{self.toolbox}, fingerprint {toolbox.fingerprint}", soft_wrap=True)
        console.print(table)
        return 0


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

    def run(self) -> int:
        toolbox = Toolbox.load(self.toolbox)
        cards = {tool.name: read_card(tool) for tool in toolbox}
        if self.figure is not None:
            plot_gains(cards, self.figure)
        if self.json:
            rows = [{**_tool_record(tool), "card": cards[tool.name].to_json()} for tool in toolbox]
            print(json.dumps({"toolbox": self.toolbox, **_toolbox_ids(toolbox), "tools": rows}, indent=2))
            return 0
        console = Console(highlight=False, markup=False, width=400 if self.markdown else None)
        console.print(_card_table(toolbox, cards, self.markdown), _gains_table(cards, self.markdown))
        for card in list(cards.values())[:1]:
            console.print(_footnote(card))
        for tool in toolbox:
            if command := tool.training.get("command"):
                console.print(f"- {tool.name}: {command}" if self.markdown else command, soft_wrap=True)
        return 0


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
    side: int = 128
    """Side of the centre crops that are used."""
    pool: Pool = "lite"
    """The pool that the tools were trained for: decides the data on which a tool's own gain is measured."""

    def run(self) -> int:
        images = read_images(list_images(self.images))
        data = f"{self.images.resolve().parent.name}/{self.images.resolve().name}"
        toolbox = Toolbox.load(self.folder.resolve())
        specs = pool_specs(self.pool)
        cards = measure_tools(toolbox, images, data, self.side, specs, show_progress=True)
        write_measurements(self.folder, {name: card.to_json() for name, card in cards.items()})
        return 0


@dataclass(frozen=True)
class Train(TrainConfig, _ToolsAction):
    """Trains one tool of the lite toolbox on its degradation.

    opera-env tools train unet.denoise --images DIV2K/train --val DIV2K/val
        trains a tool; the same command resumes an interrupted run.

    opera-env tools train unet.dehaze --images photos --val held-out --steps 50000
        trains for longer.

    opera-env tools train unet.derain --pool off-the-shelf --images photos --val held-out
        trains on other rain than the benchmark's, like the data of published networks.
    """

    def run(self) -> int:
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


def _toolbox_ids(toolbox: Toolbox) -> dict[str, str]:
    return {"signature": toolbox.signature, "fingerprint": toolbox.fingerprint}


def _tool_record(tool: Tool) -> dict[str, Any]:
    return {
        "name": tool.name,
        "degradations": sorted(tool.degradations),
        "parameters": _parameters(tool),
        "scale": tool.scale,
        "multiple": tool.multiple,
        "halo": tool.halo,
        "uses_global_context": tool.uses_global_context,
        "training": dict(tool.training),
    }


def _parameters(tool: Tool) -> int:
    return 0 if tool.module is None else sum(parameter.numel() for parameter in tool.module.parameters())


def _table(texts: Sequence[str], numbers: Sequence[str], markdown: bool = False) -> Table:
    table = Table(box=box.MARKDOWN if markdown else box.SIMPLE, padding=(0, int(markdown)))
    for column in texts:
        table.add_column(column, no_wrap=True)
    for column in numbers:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _card_table(toolbox: Toolbox, cards: Mapping[str, ToolCard], markdown: bool) -> Table:
    """Returns the table of parameters, time, gain on the degradation of each tool, and clean PSNR."""
    table = _table(("tool",), ("params", "ms", "PSNR", "SSIM", "LPIPS", "worse", "clean"), markdown)
    for tool in toolbox:
        card = cards[tool.name]
        table.add_row(
            tool.name,
            f"{_parameters(tool):,}",
            f"{card.ms:.1f}",
            f"{card.own.psnr:+.2f}",
            f"{card.own.ssim_y:+.2f}",
            f"{card.own.lpips:+.2f}",
            f"{card.own.worse}",
            f"{card.clean:.1f}",
        )
    return table


def _gains_table(cards: Mapping[str, ToolCard], markdown: bool) -> Table:
    """Returns the table of PSNR gains of every tool on every degradation."""
    degradations = (
        degradation if markdown else _SHORT_LABELS.get(degradation, degradation)
        for degradation in DEGRADATIONS
    )
    table = _table(("tool",), tuple(degradations), markdown)
    for name, card in cards.items():
        table.add_row(name, *(f"{card.gains[degradation].psnr:+.1f}" for degradation in DEGRADATIONS))
    return table


def _footnote(card: ToolCard) -> str:
    return (
        f"Measured on {card.images} images of {card.data}. ms: one image, one CPU thread. PSNR (dB, RGB), "
        "SSIM, LPIPS: mean change on what the tool was trained on; worse: images whose PSNR falls; clean: "
        "PSNR of the mean squared error on clean images. Second table: change in PSNR, dB."
    )
