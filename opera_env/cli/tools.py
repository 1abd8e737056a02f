"""``opera-env tools``: lists, measures, trains and packs the tools of a toolbox."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table

from opera_env.cli.options.bench import BenchCommand
from opera_env.cli.options.compare import Compare
from opera_env.cli.options.restore import Restore
from opera_env.cli.options.study import StudyCommand
from opera_env.cli.options.tools import ListTools, Measure, ShowCard
from opera_env.cli.outputs import check_outputs
from opera_env.console import Console
from opera_env.data.images import list_images, read_images
from opera_env.degradations import DEGRADATION_CLASSES, DEGRADATIONS, load_degradations
from opera_env.errors import MissingWeightsError
from opera_env.tool_training.measurement import measure_tools
from opera_env.tool_training.model_card import ToolCard, plot_gains, read_card
from opera_env.tools import Tool, Toolbox
from opera_env.tools.manifest import write_measurements
from opera_env.tools.paper import PAPER, PAPER_TOOLS, missing_files
from opera_env.tools.toolbox import shipped_toolboxes
from opera_env.weights.paper_files import PAPER_FILES

_SHORT_LABELS = {
    "low_light": "dark",
    "motion_blur": "motion",
    "defocus_blur": "focus",
    "low_resolution": "x4",
}
"""Short names of degradations, with which eight columns fit into a terminal."""


def list_tools(options: ListTools) -> int:
    """Prints the tools of a toolbox; returns the exit code."""
    try:
        toolbox = Toolbox.load(options.toolbox, trust_code=options.trust_code)
    except MissingWeightsError:
        if options.toolbox == PAPER and not options.json:
            _print_paper_files()
        raise
    rows = [_tool_record(tool) for tool in toolbox]
    if options.json:
        ids = {"toolbox": options.toolbox, **_toolbox_ids(toolbox), "shipped": _shipped()}
        print(json.dumps({**ids, "tools": rows}, indent=2))
        return 0
    table = _table(("name", "for"), ("params", "scale", "multiple", "halo"))
    for row in rows:
        halo = (
            "?" if row["halo"] is None else f"{row['halo']}{' + all' if row['uses_global_context'] else ''}"
        )
        size = f"{row['parameters']:,}", str(row["scale"]), str(row["multiple"]), halo
        table.add_row(row["name"], ", ".join(row["degradations"]), *size)
    console = Console(highlight=False, markup=False)
    console.print(f"{options.toolbox}, fingerprint {toolbox.fingerprint}", soft_wrap=True)
    console.print(table)
    console.print("Toolboxes that come with opera-env (--toolbox NAME):", soft_wrap=True)
    for name, commands in _shipped().items():
        default = f", default of {', '.join(commands)}" if commands else ""
        console.print(f"  {name}{default}", soft_wrap=True)
    console.print(f"Official networks: {PAPER}, after `opera-env weights fetch {PAPER}`", soft_wrap=True)
    return 0


def _print_paper_files() -> None:
    """Prints the tools of the paper, their weight files and which of them are missing."""
    table = Table("name", "for", "status", box=box.SIMPLE)
    table.add_column("weight file", overflow="fold")
    table.add_column("where to get it", overflow="fold")
    missing = missing_files()
    for tool in PAPER_TOOLS:
        file = PAPER_FILES.get(tool.name)
        if file is None:
            table.add_row(tool.name, tool.degradation, "present", "none needed", "")
            continue
        origin = "downloaded by weights fetch" if file.urls else f"by hand from {file.page}"
        status = "missing" if file in missing else "present"
        table.add_row(tool.name, tool.degradation, status, file.filename, origin)
    # Wide enough for its contents where the output is no terminal: a name that is cut is of no use.
    Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 240).print(table)


def _shipped() -> dict[str, list[str]]:
    """Returns the commands that use each shipped toolbox unless another one is named."""
    commands = {"restore": Restore, "compare": Compare, "study": StudyCommand, "bench": BenchCommand}
    return {
        name: [command for command, options in commands.items() if options.toolbox == name]
        for name in shipped_toolboxes()
    }


def show_card(options: ShowCard) -> int:
    """Prints the model card of a toolbox; returns the exit code."""
    check_outputs({"--figure": options.figure}, force=True)
    toolbox = Toolbox.load(options.toolbox, trust_code=options.trust_code)
    cards = {tool.name: read_card(tool) for tool in toolbox}
    if options.figure is not None:
        plot_gains(cards, options.figure)
    if options.json:
        rows = [{**_tool_record(tool), "card": cards[tool.name].to_json()} for tool in toolbox]
        print(json.dumps({"toolbox": options.toolbox, **_toolbox_ids(toolbox), "tools": rows}, indent=2))
        return 0
    console = Console(highlight=False, markup=False, width=400 if options.markdown else None)
    console.print(_card_table(toolbox, cards, options.markdown), _gains_table(cards, options.markdown))
    for card in list(cards.values())[:1]:
        console.print(_footnote(card))
    for tool in toolbox:
        if command := tool.training.get("command"):
            console.print(f"- {tool.name}: {command}" if options.markdown else command, soft_wrap=True)
    return 0


def measure(options: Measure) -> int:
    """Measures the tools of a folder and writes the results to its manifest; returns the exit code."""
    images = read_images(list_images(options.images))
    data = f"{options.images.resolve().parent.name}/{options.images.resolve().name}"
    toolbox = Toolbox.load(options.folder.resolve(), trust_code=options.trust_code)
    own = {each.name: each for each in load_degradations(options.degradations)}
    degradations = own or DEGRADATION_CLASSES
    cards = measure_tools(
        toolbox, images, data, options.side, show_progress=True, degradations=degradations
    )
    write_measurements(options.folder, {name: card.to_json() for name, card in cards.items()})
    return 0


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
