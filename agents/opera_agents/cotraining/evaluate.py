"""Compares toolboxes under plans: what training tools together has brought, and what it has cost.

Example:
    python -m opera_agents.cotraining.evaluate --images bsds500/val --toolboxes lite runs/tools/toolbox
    python -m opera_agents.cotraining.evaluate --images bsds500/val \
        --toolboxes lite runs/control/toolbox runs/tools/toolbox --agents planner planner planner:runs/new

The first toolbox is the one that the others are compared with. Tables: the benchmark's groups; and each
network alone, on clean photographs, to which it should do nothing, and on the damage it is for.

Source: tables 1, 9 and 12 of the paper.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from rich import box
from rich.console import Console
from rich.table import Table

from opera_agents.common.runs import set_threads
from opera_env.agents import make_agent, run_agent
from opera_env.data import clean_folder
from opera_env.data.images import list_images, read_images
from opera_env.degradations import DEGRADATIONS, benchmark_group, benchmark_recipes
from opera_env.errors import AgentError
from opera_env.evaluation.stats import ConfidenceInterval, bootstrap_interval
from opera_env.files import atomic_write
from opera_env.scoring import PlanScorer
from opera_env.tool_training.model_card import ToolCard, measure_tools
from opera_env.tools import Tool, Toolbox
from opera_env.types import Outcome, Sample

METRICS = ("psnr_y", "ssim_y", "lpips")


@dataclass(frozen=True)
class EvaluateConfig:
    """What is compared, on what."""

    images: Path
    """Folder of clean photographs that nothing was trained on."""
    toolboxes: tuple[str, ...]
    """Shipped toolboxes or folders; the first is what the others are compared with."""
    agents: tuple[str, ...] = ("planner",)
    """Who plans for each of them: one for all, or one each: planner, planner:FOLDER, or any other name."""
    n: int = 96
    """Samples of the benchmark's combinations."""
    single: int = 40
    """Photographs on which each tool is tried alone; 0 leaves that out."""
    reward: str = "lite"
    """What counts as quality."""
    max_tools: int = 6
    """Longest plan."""
    canvas: int = 128
    """Side of the crops."""
    seed: int = 1
    """Of crops and degradations."""
    threads: int = 2
    """CPU threads."""
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    json: Path | None = None
    """File for the figures."""


@dataclass(frozen=True)
class AgentOutcomes:
    """What an agent reached with a toolbox.

    Attributes:
        name: Of the toolbox.
        outcomes: One per sample.
    """

    name: str
    outcomes: list[Outcome]

    def values(self, metric: str) -> list[float]:
        """Returns one value per sample: of a metric, of the reward "r_q", or the number of "tools"."""
        if metric == "r_q":
            return [outcome.r_q for outcome in self.outcomes]
        if metric == "tools":
            return [float(outcome.tools_run) for outcome in self.outcomes]
        return [outcome.metrics[metric] for outcome in self.outcomes]


def evaluate(config: EvaluateConfig) -> dict[str, Any]:
    """Measures, prints and writes; returns the figures as JSON types.

    Raises:
        AgentError: If there are neither one agent nor as many as toolboxes.
    """
    agents = config.agents * len(config.toolboxes) if len(config.agents) == 1 else config.agents
    if len(agents) != len(config.toolboxes):
        raise AgentError(
            f"expected one agent, or one for each of {len(config.toolboxes)} toolboxes, found "
            f"{len(agents)}."
        )
    set_threads(config.threads)
    samples = benchmark(config)
    console, played = Console(), list[AgentOutcomes]()
    toolboxes = [Toolbox.load(name, config.device) for name in config.toolboxes]
    for name, toolbox, agent in zip(config.toolboxes, toolboxes, agents, strict=True):
        scorer = PlanScorer(toolbox, config.reward)
        player = make_agent(agent, toolbox=toolbox, max_tools=config.max_tools, seed=config.seed)
        plans = run_agent(player, samples, scorer, config.max_tools).plans
        played.append(AgentOutcomes(f"{name}, {agent}", scorer.score(samples, plans, restored=False)))
    figures: dict[str, Any] = {"groups": group_results(played, samples)}
    for name, rows in figures["groups"].items():
        console.print(group_table(name, rows))
    if config.single:
        figures["alone"] = dict(alone(config, toolboxes))
        console.print(single_tool_table(figures["alone"]))
    if config.json is not None:
        with atomic_write(config.json) as part:
            part.write_text(json.dumps(figures, indent=2) + "\n")
    return figures


def benchmark(config: EvaluateConfig) -> list[Sample]:
    """Draws samples as ``opera-env compare`` does."""
    source = clean_folder(config.images, config.canvas)
    rng = np.random.default_rng(config.seed)
    return [source.make(spec) for spec in source.list_specs(config.n, benchmark_recipes(), rng)]


def group_results(played: Sequence[AgentOutcomes], samples: Sequence[Sample]) -> dict[str, Any]:
    """Returns means by group, and paired differences to the first with intervals over photographs."""
    groups = [benchmark_group(sample.spec.recipe) for sample in samples]
    photographs = [sample.spec.source_image for sample in samples]
    found: dict[str, Any] = {}
    for one in played:
        rows: dict[str, Any] = {}
        for group in (*sorted({group for group in groups if group}), "all"):
            mine = [index for index, its in enumerate(groups) if group in ("all", its)]
            rows[group] = {
                metric: _paired_difference(one.values(metric), played[0].values(metric), mine, photographs)
                for metric in ("r_q", *METRICS, "tools")
            }
        found[one.name] = rows
    return found


def _paired_difference(
    values: Sequence[float],
    first: Sequence[float],
    mine: Sequence[int],
    photographs: Sequence[tuple[str, int]],
) -> dict[str, float]:
    gain: ConfidenceInterval = bootstrap_interval(
        [values[index] - first[index] for index in mine], [photographs[index] for index in mine]
    )
    return {"mean": float(np.mean([values[index] for index in mine])), **_difference_dict(gain)}


def _difference_dict(gain: ConfidenceInterval) -> dict[str, float]:
    return {"more": gain.mean, "low": gain.low, "high": gain.high}


def alone(config: EvaluateConfig, toolboxes: Sequence[Toolbox]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields what each toolbox's networks do alone: to clean photographs, and to what they are for."""
    photographs = read_images(list_images(config.images)[: config.single])
    # Brighteners are networks in some toolboxes, and would be compared with nothing.
    constants = {tool.name for toolbox in toolboxes for tool in toolbox if not tool.parameters}
    for name, toolbox in zip(config.toolboxes, toolboxes, strict=True):
        networks = toolbox.subset([tool.name for tool in toolbox if tool.name not in constants])
        cards = measure_tools(networks, photographs, config.images.name, config.canvas)
        yield name, _mean_tool_results({tool.name: (tool, cards[tool.name]) for tool in networks})


def _mean_tool_results(cards: Mapping[str, tuple[Tool, ToolCard]]) -> dict[str, Any]:
    """Returns means over the networks; PSNR in dB, and the dB that it gained."""
    clean = np.array([card.clean for _, card in cards.values()])
    drawn = {
        name: card.gains[min(tool.degradations & set(DEGRADATIONS))].psnr
        for name, (tool, card) in cards.items()
    }
    return {
        "clean_psnr": float(-10 * np.log10(np.mean(10 ** (-clean / 10)))),
        "clean_psnr_mean": float(clean.mean()),
        "gain": float(np.mean(list(drawn.values()))),
        "gain_at_strength": float(np.mean([card.own.psnr for _, card in cards.values()])),
        "tools": {
            name: {"clean_psnr": card.clean, "gain": drawn[name], "gain_at_strength": card.own.psnr}
            for name, (_, card) in cards.items()
        },
    }


def group_table(name: str, rows: Mapping[str, Any]) -> Table:
    """Shows an agent's means by group, and what is more than the first one's."""
    table = Table("", title=name, title_justify="left", box=box.SIMPLE, padding=(0, 0, 0, 1))
    for column in ("R_q", "PSNR", "more (95 %)", "LPIPS", "more (95 %)", "tools"):
        table.add_column(column, justify="right", no_wrap=True)
    for group, row in rows.items():
        table.add_row(
            group,
            f"{row['r_q']['mean']:.2f}",
            f"{row['psnr_y']['mean']:.2f}",
            _difference(row["psnr_y"], 2),
            f"{row['lpips']['mean']:.3f}",
            _difference(row["lpips"], 3),
            f"{row['tools']['mean']:.1f}",
        )
    return table


def _difference(row: Mapping[str, float], digits: int) -> str:
    low, high = (f"{row[key]:.{digits}f}" for key in ("low", "high"))
    return "" if row["low"] == row["high"] else f"{row['more']:+.{digits}f} ({low}..{high})"


def single_tool_table(figures: Mapping[str, Any]) -> Table:
    """Shows what networks do alone: to clean photographs, and to their own damage."""
    table = Table("each network alone, PSNR in dB", box=box.SIMPLE, padding=(0, 0, 0, 1))
    for title in _COLUMNS:
        table.add_column(title, justify="right")
    for name, row in figures.items():
        table.add_row(name, *(f"{row[key]:.2f}" for key in _COLUMNS.values()))
    return table


_COLUMNS = {
    "clean, of the mean error": "clean_psnr",
    "clean, mean": "clean_psnr_mean",
    "own damage as drawn, gain": "gain",
    "at the strength trained on": "gain_at_strength",
}
"""A network that ruins clean photographs decides the first, whatever the others do."""


if __name__ == "__main__":
    evaluate(tyro.cli(EvaluateConfig))
