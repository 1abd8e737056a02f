"""Measures what more tries buy: the planner draws several plans an image, the critic keeps the best.

python scripts/quality_cost.py bsds500/val --out docs/figures/quality-cost.png
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
from rich.table import Table

from opera_env.agents import make_agent, run_agent
from opera_env.data import clean_folder
from opera_env.degradations import benchmark_recipes
from opera_env.evaluation.stats import ConfidenceInterval, bootstrap_interval
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import Plan, Sample


@dataclass(frozen=True)
class QualityCostConfig:
    """Measures reward, tools and work for several numbers of plans and costs of a tool."""

    images: tyro.conf.Positional[Path]
    """Folder of clean photographs."""
    n: int = 48
    """Number of samples."""
    samples: tuple[int, ...] = (1, 2, 4, 8, 16)
    """Plans tried for each image."""
    tool_costs: tuple[float, ...] = (0.0, 0.1, 0.3)
    """What a tool must earn in the eyes of the critic."""
    seed: int = 1
    """Of the samples and of the draws."""
    out: Path | None = None
    """Picture to write."""


@dataclass(frozen=True)
class QualityCostPoint:
    """What one setting of the dial costs and yields.

    Attributes:
        reward: R_q by the reference, without the cost.
        length: Tools per plan.
        tools_run: Tools run per image, to choose and not counting the final run.
        seconds: Per image, to choose.
    """

    samples: int
    tool_cost: float
    reward: ConfidenceInterval
    length: float
    tools_run: float
    seconds: float


def measure(
    config: QualityCostConfig, toolbox: Toolbox, samples: Sequence[Sample], count: int, tool_cost: float
) -> QualityCostPoint:
    """Lets the planner choose blindly and the reference judge."""
    critic, judge = PlanScorer(toolbox, "label_free"), PlanScorer(toolbox, "lite")
    player = make_agent("planner", toolbox=toolbox, seed=config.seed, tool_cost=tool_cost, num_plans=count)
    plans: list[Plan] = []
    start = time.perf_counter()
    for sample in samples:  # one by one, as photographs come
        plans += run_agent(player, [sample.blind()], critic, 6).plans
    seconds = time.perf_counter() - start
    rewards = [outcome.r_q for outcome in judge.score(samples, plans, restored=False)]
    return QualityCostPoint(
        count,
        tool_cost,
        bootstrap_interval(rewards, [sample.spec.source_image for sample in samples]),
        float(np.mean([len(plan) for plan in plans])),
        critic.tools_run / len(samples),
        seconds / len(samples),
    )


def draw(points: Sequence[QualityCostPoint], path: Path) -> None:
    """Writes reward over the tools run, a line for each cost."""
    figure = Figure(figsize=(5, 3.6), layout="constrained")
    axes = figure.subplots()
    for tool_cost in sorted({point.tool_cost for point in points}):
        line = [point for point in points if point.tool_cost == tool_cost]
        run = [point.tools_run + point.length for point in line]
        axes.plot(
            run, [point.reward.mean for point in line], marker="o", label=f"a tool costs {tool_cost:g}"
        )
        for x, point in zip(run, line, strict=True):
            axes.annotate(
                str(point.samples),
                (x, point.reward.mean),
                fontsize=7,
                xytext=(3, 3),
                textcoords="offset points",
            )
    axes.set(
        xlabel="tools run per image (the number of plans beside)",
        ylabel="R_q by the reference",
        xscale="log",
    )
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def main(config: QualityCostConfig) -> None:
    """Measures, prints and draws."""
    toolbox = Toolbox.load("lite")
    source = clean_folder(config.images)
    specs = source.list_specs(config.n, benchmark_recipes(), np.random.default_rng(config.seed))
    samples = [source.make(spec) for spec in specs]
    table = Table("plans", "cost", "R_q (95 %)", "tools a plan", "tools run", "s an image", box=box.SIMPLE)
    points: list[QualityCostPoint] = []
    for tool_cost in config.tool_costs:
        for count in config.samples:
            point = measure(config, toolbox, samples, count, tool_cost)
            points.append(point)
            found = point.reward
            table.add_row(
                str(count),
                f"{tool_cost:g}",
                f"{found.mean:.2f} ({found.low:.2f}..{found.high:.2f})",
                f"{point.length:.2f}",
                f"{point.tools_run:.1f}",
                f"{point.seconds:.2f}",
            )
    Console(width=100, highlight=False).print(table)
    if config.out is not None:
        draw(points, config.out)


if __name__ == "__main__":
    main(tyro.cli(QualityCostConfig))
