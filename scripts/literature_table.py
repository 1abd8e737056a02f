"""Prints the tables of docs/literature.md from results of evaluations, and draws quality against tools run.

Example:
    opera-env evaluate --benchmark OPERA-BSDS-v1 --hq bsds500/val --num-plans 64 --budget 4 16 64 \
        --agents planner-blind,greedy-blind,beam-blind,literature --out budgets.jsonl
    python scripts/literature_table.py budgets.jsonl --budget 16 --figure literature.png
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import tyro
from matplotlib.figure import Figure
from rich import box
from rich.table import Table

from opera_env.cli.program import run_program
from opera_env.console import Console
from opera_env.errors import ResultsError
from opera_env.evaluation.results import Result, read_results, spec_digest
from opera_env.evaluation.stats import ClusterBootstrap, ConfidenceInterval, format_interval, mean_over
from opera_env.evaluation.summary import OVERALL, R_Q, summarise_results
from opera_env.files import atomic_write
from opera_env.settings import PositiveInt, check_settings


class Assumption(NamedTuple):
    """An assumption of earlier agents, and two agents of which one makes it."""

    name: str
    without: str
    under: str


ASSUMPTIONS = (
    Assumption("tools are for what the detector sees, one each", "greedy-blind", "qagent-blind"),
    Assumption("one tool for each degradation, which are given", "recipe_best", "matched"),
    Assumption("the next tool is the best one now", "beam-blind", "greedy-blind"),
    Assumption("the next tool is the best one now, judged by the reference", "beam", "greedy"),
)
"""The gain without an assumption is what it costs in this world."""


@dataclass(frozen=True)
class LiteratureConfig:
    """Compares the agents of the literature with one agent, at each budget of tools run."""

    results: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Files of results; `opera-env evaluate --out FILE` writes them, one or several for each budget."""
    reference: str = "planner-blind"
    """The agent that others are compared with, at the same budget."""
    budget: PositiveInt | None = None
    """Budget of the first table; by default results without a budget."""
    figure: Path | None = None
    """Image file for quality against tools run; none by default."""

    def __post_init__(self) -> None:
        check_settings(self)


def tools_run(row: Result) -> int:
    """Returns the tools that ran for an image, those of the final plan included.

    An agent has either run its plan among others before it decided, or nothing at all.
    """
    return max(row.cost.tools_run, len(row.plan))


def select(results: Sequence[Result], toolbox: str, budget: int | None, first: str = "") -> list[Result]:
    """Returns the results with a toolbox and a budget; those of the agent ``first`` come first."""
    rows = [row for row in results if row.toolbox == toolbox and row.budget == budget]
    return sorted(rows, key=lambda row: row.agent != first)


def by_agent(rows: Sequence[Result]) -> dict[str, list[Result]]:
    """Returns the results of each agent, all in the same order of samples."""
    agents: dict[str, list[Result]] = {}
    for row in rows:
        agents.setdefault(row.agent, []).append(row)
    return {agent: sorted(found, key=lambda row: spec_digest(row.spec)) for agent, found in agents.items()}


def difference(rows: Sequence[Result], others: Sequence[Result]) -> ConfidenceInterval:
    """Returns the mean paired difference in R_q, unweighted over combinations, over photographs."""
    if [row.spec for row in rows] != [row.spec for row in others]:
        raise ResultsError(
            f"expected results of the same samples for {rows[0].agent} and {others[0].agent}, found "
            "others: evaluate both on the same samples."
        )
    gains = [row.r_q - other.r_q for row, other in zip(rows, others, strict=True)]
    bootstrap = ClusterBootstrap([row.spec.source_image for row in rows])
    return bootstrap.interval(gains, mean_over([row.combination for row in rows]))


def main_table(rows: Sequence[Result], title: str) -> Table:
    """Returns the table of R_q, the metrics, the tools in the plan, and what a decision cost."""
    summary = summarise_results(rows)
    titles = [f"{column.title}" for column in summary.columns]
    costs = ("tools in the plan", "tools run", "results judged", "s")
    table = Table(title, "R_q [95 %]", *titles, *costs, box=box.MARKDOWN)
    for entry in summary.entries:
        means = entry.means[OVERALL]
        metrics = [
            f"{means[column.metric].mean:.{column.digits}f}" if column.metric in means else ""
            for column in summary.columns
        ]
        numbers = (entry.tools, entry.tools_run, entry.images_scored)
        cells = (*(f"{number:.1f}" for number in numbers), f"{entry.seconds:.2f}")
        table.add_row(f"`{entry.agent}`", format_interval(means[R_Q]), *metrics, *cells)
    return table


def budget_table(results: Sequence[Result], toolbox: str, reference: str) -> Table:
    """Returns the paired differences of the reference less each agent at equal budgets."""
    budgets = sorted({budget for row in results if (budget := row.budget) is not None})
    table = Table(f"{reference} less, {toolbox}", *(f"budget {each}" for each in budgets), box=box.MARKDOWN)
    cells: dict[str, list[str]] = {}
    for place, budget in enumerate(budgets):
        agents = by_agent(select(results, toolbox, budget))
        if reference not in agents:
            continue
        for agent, rows in agents.items():
            if agent != reference:
                row = cells.setdefault(agent, [""] * len(budgets))
                row[place] = format_interval(difference(agents[reference], rows), signed=True)
    for agent, row in cells.items():
        table.add_row(f"`{agent}`", *row)
    return table


def assumption_table(rows: Sequence[Result], title: str) -> Table:
    """Returns what each assumption costs, where results of both of its agents are given."""
    agents = by_agent(rows)
    table = Table(title, "without", "under it", "cost in R_q [95 %]", box=box.MARKDOWN)
    for name, without, under in ASSUMPTIONS:
        if without in agents and under in agents:
            cost = format_interval(difference(agents[without], agents[under]), signed=True)
            table.add_row(name, f"`{without}`", f"`{under}`", cost)
    return table


def draw(results: Sequence[Result], toolboxes: Sequence[str], path: Path) -> None:
    """Draws mean R_q over the mean number of tools run, a panel for each toolbox."""
    figure = Figure(figsize=(6.5 * len(toolboxes), 4.5), layout="constrained")
    for panel, toolbox in zip(figure.subplots(1, len(toolboxes), squeeze=False)[0], toolboxes, strict=True):
        curves: dict[str, list[tuple[float, ConfidenceInterval]]] = {}
        for budget in {row.budget for row in results}:
            for agent, rows in by_agent(select(results, toolbox, budget)).items():
                bootstrap = ClusterBootstrap([row.spec.source_image for row in rows])
                strata = mean_over([row.combination for row in rows])
                quality = bootstrap.interval([row.r_q for row in rows], strata)
                point = float(np.mean([tools_run(row) for row in rows])), quality
                curves.setdefault(agent, []).append(point)
        for number, (agent, points) in enumerate(curves.items()):
            points.sort(key=lambda point: point[0])
            x, y = [place for place, _ in points], [quality.mean for _, quality in points]
            color = f"C{number % 10}"
            panel.plot(x, y, marker="os^D"[number // 10 % 4], label=agent, color=color)
            low, high = [quality.low for _, quality in points], [quality.high for _, quality in points]
            panel.fill_between(x, low, high, color=color, alpha=0.1)
        panel.set_xscale("symlog", linthresh=1)
        panel.set_xlabel("tools run for an image, those of its plan included")
        panel.set_ylabel("R_q, 95 % interval")
        panel.set_title(toolbox)
        panel.legend(fontsize=7, ncols=2)
    with atomic_write(path) as part:
        figure.savefig(part, dpi=130, format=path.suffix.removeprefix(".") or "png")


def tables(config: LiteratureConfig, results: Sequence[Result]) -> Iterator[Table]:
    """Yields the tables of each toolbox.

    Raises:
        ResultsError: If there are no results with the budget.
    """
    for toolbox in dict.fromkeys(row.toolbox for row in results):
        rows = select(results, toolbox, config.budget, config.reference)
        if not rows:
            raise ResultsError(
                f"expected results of {toolbox} with the budget {config.budget}, found "
                f"{sorted({str(row.budget) for row in results})}: choose one of these by --budget."
            )
        yield main_table(rows, f"{toolbox}, budget {config.budget or 'none'}")
        yield budget_table(results, toolbox, config.reference)
        yield assumption_table(rows, f"assumption, {toolbox}")


def report(config: LiteratureConfig) -> None:
    """Prints the tables, and writes the figure."""
    results = [result for path in config.results for result in read_results(path)]
    console = Console(highlight=False, markup=False, width=400)
    for table in tables(config, results):
        console.print(table)
    if config.figure is not None:
        draw(results, list(dict.fromkeys(row.toolbox for row in results)), config.figure)


if __name__ == "__main__":
    run_program(LiteratureConfig, report)
