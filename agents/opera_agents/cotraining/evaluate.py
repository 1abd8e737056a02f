"""Compares toolboxes under plans: the gain of co-training, and its side effects.

Example:
    python -m opera_agents.cotraining.evaluate --images bsds500/val --toolboxes lite runs/tools/toolbox
    python -m opera_agents.cotraining.evaluate --images bsds500/val \
        --toolboxes lite runs/adapted/toolbox runs/tools/toolbox --agents planner planner planner:runs/new

All toolboxes are compared with the first one. The first tables show the results of plans by group of the
benchmark. The last shows each network alone: on clean photographs, which it should not change (misuse), and
on the degradation that it removes.

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
from rich import box
from rich.table import Table

from opera_agents.common.runs import set_threads
from opera_env.agents import make_agent, run_agent
from opera_env.cli.program import run_program
from opera_env.console import Console
from opera_env.data import clean_folder
from opera_env.data.images import list_images, read_images
from opera_env.degradations import (
    benchmark_group,
    benchmark_recipes,
    load_degradations,
    merge_degradations,
)
from opera_env.errors import AgentError
from opera_env.evaluation.stats import ConfidenceInterval, bootstrap_interval, format_interval
from opera_env.files import atomic_write
from opera_env.scoring import PlanScorer
from opera_env.settings import NonNegativeInt, PositiveInt, check_settings
from opera_env.tool_training.measurement import measure_tools
from opera_env.tool_training.model_card import ToolCard
from opera_env.tools import Tool, Toolbox
from opera_env.types import Outcome, Sample

METRICS = ("psnr_y", "ssim_y", "lpips")

_SINGLE_TOOL_COLUMNS = {
    "clean, from mean MSE": "clean_psnr",
    "clean, mean": "clean_psnr_mean",
    "benchmark, gain": "gain",
    "own training data, gain": "gain_on_training_data",
}
"""Titles and keys of the table of single tools. The first column is dominated by the network that changes
clean photographs most."""


@dataclass(frozen=True)
class EvaluateConfig:
    """Compares toolboxes under the plans of agents, and their tools alone."""

    images: Path
    """Folder of clean photographs that were not used in training."""
    toolboxes: tuple[str, ...]
    """Names of shipped toolboxes, or folders; all are compared with the first."""
    agents: tuple[str, ...] = ("planner",)
    """The agent that predicts the plans: one for all toolboxes, or one for each; planner, planner:FOLDER,
    or the name of another agent."""
    n: PositiveInt = 96
    """Number of samples of the benchmark."""
    tool_photographs: NonNegativeInt = 40
    """Number of photographs on which each tool is measured alone; 0 leaves these measurements out."""
    reward: str = "lite"
    """Reward that computes R_q: a preset, or module:attribute, a reward of your own."""
    max_tools: PositiveInt = 6
    """Maximum number of tools in a plan."""
    canvas: PositiveInt = 128
    """Side of the square crops in pixels."""
    seed: NonNegativeInt = 1
    """Seed of the crops and degradations."""
    degradations: str | None = None
    """Custom degradations beside the built-in ones: module:attribute of one or a list. The recipes are then
    all plausible orders of up to three degradations."""
    threads: PositiveInt = 2
    """Number of CPU threads."""
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    """Device of the tools."""
    json: Path | None = None
    """JSON file for the results."""
    trust_code: bool = False
    """Run what a toolbox folder names: code of your own (module:attribute), programs and served tools."""

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True)
class AgentOutcomes:
    """The outcomes of an agent's plans with a toolbox.

    Attributes:
        name: Name of the toolbox and of the agent.
        outcomes: One outcome per sample.
    """

    name: str
    outcomes: list[Outcome]

    def values(self, metric: str) -> list[float]:
        """Returns one value per sample: of a metric, of R_q ("r_q"), or the number of tools ("tools")."""
        if metric == "r_q":
            return [outcome.r_q for outcome in self.outcomes]
        if metric == "tools":
            return [float(outcome.num_tools) for outcome in self.outcomes]
        return [outcome.metrics[metric] for outcome in self.outcomes]


def evaluate(config: EvaluateConfig) -> dict[str, Any]:
    """Compares toolboxes, prints tables and writes the results; returns the results in JSON types.

    Raises:
        AgentError: If there are neither one agent nor as many as toolboxes.
    """
    toolboxes = [Toolbox.load(name, config.device, config.trust_code) for name in config.toolboxes]
    agent_names = config.agents * len(toolboxes) if len(config.agents) == 1 else config.agents
    if len(agent_names) != len(toolboxes):
        raise AgentError(
            f"expected one agent, or one for each of {len(toolboxes)} toolboxes, found {len(agent_names)}."
        )
    set_threads(config.threads)
    samples = benchmark_samples(config)
    labels = tuple(merge_degradations(load_degradations(config.degradations)))
    outcomes_by_agent: list[AgentOutcomes] = []
    for name, toolbox, agent_name in zip(config.toolboxes, toolboxes, agent_names, strict=True):
        scorer = PlanScorer(toolbox, config.reward)
        agent = make_agent(
            agent_name, toolbox=toolbox, max_tools=config.max_tools, seed=config.seed, labels=labels
        )
        plans = run_agent(agent, samples, scorer, config.max_tools).plans
        outcomes = scorer.score(samples, plans, restored=False)
        outcomes_by_agent.append(AgentOutcomes(f"{name}, {agent_name}", outcomes))
    console = Console()
    results: dict[str, Any] = {"groups": group_results(outcomes_by_agent, samples)}
    for name, rows in results["groups"].items():
        console.print_uncut(group_table(name, rows))
    if config.tool_photographs:
        results["single_tools"] = dict(evaluate_tools(config, toolboxes))
        console.print_uncut(single_tool_table(results["single_tools"]))
    if config.json is not None:
        with atomic_write(config.json) as partial:
            partial.write_text(json.dumps(results, indent=2) + "\n")
    return results


def benchmark_samples(config: EvaluateConfig) -> list[Sample]:
    """Draws the same samples as ``opera-env compare`` with the same seed.

    With custom degradations, the recipes are those of the source instead of those of the benchmark.
    """
    custom_degradations = load_degradations(config.degradations)
    source = clean_folder(config.images, config.canvas, degradations=custom_degradations)
    recipes, rng = None if custom_degradations else benchmark_recipes(), np.random.default_rng(config.seed)
    return [source.make(spec) for spec in source.list_specs(config.n, recipes, rng)]


def group_results(
    outcomes_by_agent: Sequence[AgentOutcomes], samples: Sequence[Sample]
) -> dict[str, dict[str, Any]]:
    """Returns means by group of the benchmark, and paired differences to the first agent.

    Returns:
        Name of the agent, group, metric and statistic: the ``mean``, and the ``difference`` with its 95 %
        confidence interval ``low`` to ``high``, resampled by photograph.
    """
    groups = [benchmark_group(sample.spec.recipe) for sample in samples]
    photographs = [sample.spec.source_image for sample in samples]
    results: dict[str, dict[str, Any]] = {}
    for agent in outcomes_by_agent:
        rows: dict[str, Any] = {}
        for group in (*sorted({group for group in groups if group}), "all"):
            indices = [index for index, sample_group in enumerate(groups) if group in ("all", sample_group)]
            rows[group] = {
                metric: _paired_difference(
                    agent.values(metric), outcomes_by_agent[0].values(metric), indices, photographs
                )
                for metric in ("r_q", *METRICS, "tools")
            }
        results[agent.name] = rows
    return results


def _paired_difference(
    values: Sequence[float],
    baseline: Sequence[float],
    indices: Sequence[int],
    photographs: Sequence[tuple[str, str | int]],
) -> dict[str, float]:
    difference = bootstrap_interval(
        [values[index] - baseline[index] for index in indices], [photographs[index] for index in indices]
    )
    return {
        "mean": float(np.mean([values[index] for index in indices])),
        "difference": difference.mean,
        "low": difference.low,
        "high": difference.high,
    }


def evaluate_tools(
    config: EvaluateConfig, toolboxes: Sequence[Toolbox]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the results of each toolbox's networks alone, by name of the toolbox; each toolbox once.

    Tools that have no parameters in one of the toolboxes, such as brighteners without a tone curve, are
    left out of all of them.
    """
    photographs = read_images(list_images(config.images)[: config.tool_photographs])
    degradations = merge_degradations(load_degradations(config.degradations))
    without_parameters = {tool.name for toolbox in toolboxes for tool in toolbox if not tool.parameters}
    for name, toolbox in dict(zip(config.toolboxes, toolboxes, strict=True)).items():
        networks = toolbox.subset([tool.name for tool in toolbox if tool.name not in without_parameters])
        cards = measure_tools(
            networks, photographs, config.images.name, config.canvas, degradations=degradations
        )
        yield name, _mean_tool_results({tool.name: (tool, cards[tool.name]) for tool in networks})


def _mean_tool_results(cards: Mapping[str, tuple[Tool, ToolCard]]) -> dict[str, Any]:
    """Returns means over the networks: PSNR and gains of PSNR in dB."""
    clean = np.array([card.clean for _, card in cards.values()])
    gains = {
        name: card.gains[min(tool.degradations & set(card.gains))].psnr
        for name, (tool, card) in cards.items()
    }
    return {
        "clean_psnr": float(-10 * np.log10(np.mean(10 ** (-clean / 10)))),
        "clean_psnr_mean": float(clean.mean()),
        "gain": float(np.mean(list(gains.values()))),
        "gain_on_training_data": float(np.mean([card.own.psnr for _, card in cards.values()])),
        "tools": {
            name: {"clean_psnr": card.clean, "gain": gains[name], "gain_on_training_data": card.own.psnr}
            for name, (_, card) in cards.items()
        },
    }


def group_table(name: str, rows: Mapping[str, Any]) -> Table:
    """Returns the table of an agent's means by group, with differences to the first agent."""
    table = Table("", title=name, title_justify="left", box=box.SIMPLE, padding=(0, 0, 0, 1))
    for column in ("R_q", "difference", "PSNR", "difference", "LPIPS", "difference", "tools"):
        table.add_column(column, justify="right", no_wrap=True)
    for group, row in rows.items():
        table.add_row(
            group,
            f"{row['r_q']['mean']:.2f}",
            _format_difference(row["r_q"], 2),
            f"{row['psnr_y']['mean']:.2f}",
            _format_difference(row["psnr_y"], 2),
            f"{row['lpips']['mean']:.3f}",
            _format_difference(row["lpips"], 3),
            f"{row['tools']['mean']:.1f}",
        )
    return table


def _format_difference(row: Mapping[str, float], digits: int) -> str:
    """Formats a difference and its 95 % interval, such as ``+0.34 [-0.26, 0.93]``; empty if both are 0."""
    if row["low"] == row["high"]:
        return ""
    interval = ConfidenceInterval(row["difference"], row["low"], row["high"])
    return format_interval(interval, digits, signed=True)


def single_tool_table(results: Mapping[str, Any]) -> Table:
    """Returns the table of the networks alone, a row for each toolbox."""
    title = "each network alone, PSNR in dB"
    table = Table("", title=title, title_justify="left", box=box.SIMPLE, padding=(0, 0, 0, 1))
    for column in _SINGLE_TOOL_COLUMNS:
        table.add_column(column, justify="right")
    for name, row in results.items():
        table.add_row(name, *(f"{row[key]:.2f}" for key in _SINGLE_TOOL_COLUMNS.values()))
    return table


if __name__ == "__main__":
    run_program(EvaluateConfig, evaluate)
