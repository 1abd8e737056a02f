"""Measures the effect of trying several plans: the planner samples them, the critic selects one.

Example:
    python scripts/quality_cost.py bsds500/val --n 32 --num-plans 1 2 4 8 --out quality-cost.png
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from matplotlib.figure import Figure
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from opera_env.agents import make_agent, run_agent
from opera_env.command_line import parse_settings
from opera_env.data import clean_folder
from opera_env.degradations import benchmark_recipes
from opera_env.evaluation.stats import ConfidenceInterval, bootstrap_interval, format_interval
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import Plan, Sample


@dataclass(frozen=True)
class QualityCostConfig:
    """Measures reward, plan length and work for several numbers of plans and tool costs."""

    images: tyro.conf.Positional[Path]
    """Folder of clean photographs."""
    n: int = 48
    """Number of samples."""
    num_plans: tuple[int, ...] = (1, 2, 4, 8, 16)
    """Numbers of plans that are tried for each image."""
    tool_costs: tuple[float, ...] = (0.0, 0.1, 0.3)
    """Tool costs that the critic subtracts for each tool."""
    seed: int = 1
    """Seed of the samples and of the planner."""
    out: Path | None = None
    """Image file to write; none by default."""


@dataclass(frozen=True)
class QualityCostPoint:
    """Reward and cost of one setting.

    Attributes:
        num_plans: Number of plans that were tried for each image.
        tool_cost: Cost of a tool, in points of R_q.
        reward: R_q computed with the reference, tool cost not subtracted.
        length: Mean number of tools in the selected plans.
        tools_run: Tools run per image to select a plan, without the final run.
        seconds: Seconds per image to select a plan.
    """

    num_plans: int
    tool_cost: float
    reward: ConfidenceInterval
    length: float
    tools_run: float
    seconds: float


def measure(
    config: QualityCostConfig, toolbox: Toolbox, samples: Sequence[Sample], num_plans: int, tool_cost: float
) -> QualityCostPoint:
    """Lets the planner select plans with the critic and scores them with the reference."""
    blind_scorer, reference_scorer = PlanScorer(toolbox, "label_free"), PlanScorer(toolbox, "lite")
    agent = make_agent(
        "planner", toolbox=toolbox, seed=config.seed, tool_cost=tool_cost, num_plans=num_plans
    )
    plans: list[Plan] = []
    start = time.perf_counter()
    for sample in samples:  # one image at a time, as in opera-env restore
        plans += run_agent(agent, [sample.blind()], blind_scorer, 6).plans
    seconds = time.perf_counter() - start
    rewards = [outcome.r_q for outcome in reference_scorer.score(samples, plans, restored=False)]
    return QualityCostPoint(
        num_plans,
        tool_cost,
        bootstrap_interval(rewards, [sample.spec.source_image for sample in samples]),
        float(np.mean([len(plan) for plan in plans])),
        blind_scorer.tools_run / len(samples),
        seconds / len(samples),
    )


def draw(points: Sequence[QualityCostPoint], path: Path) -> None:
    """Draws the reward over the number of tools run, one line for each tool cost."""
    figure = Figure(figsize=(5, 3.6), layout="constrained")
    axes = figure.subplots()
    for tool_cost in sorted({point.tool_cost for point in points}):
        line = [point for point in points if point.tool_cost == tool_cost]
        tools = [point.tools_run + point.length for point in line]
        rewards = [point.reward.mean for point in line]
        axes.plot(tools, rewards, marker="o", label=f"tool cost {tool_cost:g}")
        for x, point in zip(tools, line, strict=True):
            position = (x, point.reward.mean)
            axes.annotate(
                str(point.num_plans), position, fontsize=7, xytext=(3, 3), textcoords="offset points"
            )
    axes.set(
        xlabel="tools run per image (labels: number of plans)",
        ylabel="R_q with the reference",
        xscale="log",
    )
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def main(config: QualityCostConfig) -> None:
    """Measures all settings, prints a table and draws the image."""
    toolbox = Toolbox.load("lite")
    source = clean_folder(config.images)
    specs = source.list_specs(config.n, benchmark_recipes(), np.random.default_rng(config.seed))
    samples = [source.make(spec) for spec in specs]
    table = Table("plans", "tool cost", "R_q [95 %]", "tools/plan", "tools run", "s/image", box=box.SIMPLE)
    points: list[QualityCostPoint] = []
    for tool_cost in config.tool_costs:
        for num_plans in config.num_plans:
            point = measure(config, toolbox, samples, num_plans, tool_cost)
            points.append(point)
            table.add_row(
                str(num_plans),
                f"{tool_cost:g}",
                escape(format_interval(point.reward)),
                f"{point.length:.2f}",
                f"{point.tools_run:.1f}",
                f"{point.seconds:.2f}",
            )
    Console(width=100, highlight=False).print(table)
    if config.out is not None:
        draw(points, config.out)


if __name__ == "__main__":
    main(parse_settings(QualityCostConfig))
