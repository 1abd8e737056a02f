"""Reports what one agent does and how it differs from the others, from the samples of a comparison.

Example:
    opera-env compare --images bsds500/val --n 96 --agents random,detect,matched,planner --json out.json
    python scripts/agent_report.py out.jsonl --agent planner
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich import box
from rich.console import Console
from rich.table import Table

from opera_env.cli.program import run_program
from opera_env.degradations import benchmark_group
from opera_env.errors import SettingError
from opera_env.evaluation.report import read_records
from opera_env.evaluation.stats import ConfidenceInterval, bootstrap_interval, format_interval
from opera_env.tools import Toolbox

Row = dict[str, Any]
Value = Callable[[Row], float]


@dataclass(frozen=True)
class ReportConfig:
    """Prints how one agent differs from the others, the share of the gap it closes, and its plans."""

    samples: tyro.conf.Positional[Path]
    """The .jsonl file that ``opera-env compare --json`` wrote beside its .json file."""
    agent: str = "planner"
    """The agent that is reported."""
    baseline: str = "matched"
    """The agent from which the gap to the best known plans is measured."""
    toolbox: str = "lite"
    """The toolbox of the comparison; it lists the degradations that each tool is for."""


def reward(row: Row) -> float:
    return row["reward"]


def psnr(row: Row) -> float:
    return row["metrics"]["psnr_y"]


def image_id(row: Row) -> tuple[str, int]:
    return row["spec"]["source"], row["spec"]["index"]


def difference(
    rows: Sequence[Row], others: Sequence[Row], value: Value, group: str | None = None
) -> ConfidenceInterval | None:
    """Returns the paired difference with a 95 % interval over photographs, None for an empty group."""
    pairs = [
        (row, other)
        for row, other in zip(rows, others, strict=True)
        if group is None or benchmark_group(tuple(row["spec"]["recipe"])) == group
    ]
    values = [value(row) - value(other) for row, other in pairs]
    return bootstrap_interval(values, [image_id(row) for row, _ in pairs]) if pairs else None


def differences(agents: dict[str, list[Row]], agent: str) -> Iterator[Table]:
    """Yields tables of the differences in reward and in PSNR, on all samples and by group."""
    for title, value in (("R_q", reward), ("PSNR-Y, dB", psnr)):
        header = f"{agent} minus"
        table = Table(header, "all", "A", "B", "C", title=title, box=box.SIMPLE, pad_edge=False)
        for name, rows in agents.items():
            if name != agent:
                intervals = [difference(agents[agent], rows, value, group) for group in (None, *"ABC")]
                table.add_row(
                    name,
                    *(
                        "" if interval is None else format_interval(interval, signed=True)
                        for interval in intervals
                    ),
                )
        yield table


def gap_closed(rows: Sequence[Row], others: Sequence[Row], seed: int = 0) -> ConfidenceInterval:
    """Returns the share of the gap to the best known plans, with an interval over photographs."""
    photographs = sorted({image_id(row) for row in rows})
    gains, gaps = defaultdict(float), defaultdict(float)
    for row, other in zip(rows, others, strict=True):
        gains[image_id(row)] += row["reward"] - other["reward"]
        gaps[image_id(row)] += other["regret"]
    total_gains = np.array([gains[photograph] for photograph in photographs])
    total_gaps = np.array([gaps[photograph] for photograph in photographs])
    indices = np.random.default_rng(seed).integers(len(photographs), size=(9999, len(photographs)))
    shares = total_gains[indices].sum(1) / total_gaps[indices].sum(1)
    low, high = np.quantile(shares, [0.025, 0.975])
    return ConfidenceInterval(float(total_gains.sum() / total_gaps.sum()), float(low), float(high))


def describe_plans(rows: Sequence[Row], toolbox: Toolbox) -> Iterator[str]:
    """Yields statistics of the plans, one line each."""
    plans = [tuple(row["plan"]) for row in rows]
    lengths_by_count: dict[int, list[int]] = defaultdict(list)
    for row, plan in zip(rows, plans, strict=True):
        lengths_by_count[len(row["spec"]["recipe"])].append(len(plan))
    means = ", ".join(
        f"{np.mean(lengths):.1f} for {count}" for count, lengths in sorted(lengths_by_count.items())
    )
    yield f"tools per plan, by number of degradations: {means}"
    yield f"distinct plans: {len(set(plans))} of {len(plans)}"
    yield f"plans that repeat a tool: {format_fraction(len(set(plan)) < len(plan) for plan in plans)}"
    degradations = {tool.name: tool.degradations for tool in toolbox}
    yield "plans with two tools for one degradation: " + format_fraction(
        any(degradations[first] & degradations[second] for first, second in combinations(plan, 2))
        for plan in plans
    )
    yield "plans with an unmatched tool: " + format_fraction(
        any(not degradations[name] & set(row["spec"]["recipe"]) for name in plan)
        for row, plan in zip(rows, plans, strict=True)
    )
    yield "plans without a tool for one of the degradations: " + format_fraction(
        any(
            not any(degradation in degradations[name] for name in plan)
            for degradation in row["spec"]["recipe"]
        )
        for row, plan in zip(rows, plans, strict=True)
    )
    yield "tools: " + format_counts(name for plan in plans for name in plan)
    yield "order of neighbours: " + format_counts(adjacent_pairs(plans, degradations), limit=8)
    plan_counts: dict[str, Counter[str]] = defaultdict(Counter)
    for row, plan in zip(rows, plans, strict=True):
        plan_counts[" + ".join(row["spec"]["recipe"])][" > ".join(plan) or "empty plan"] += 1
    for recipe, counts in plan_counts.items():
        plan, count = counts.most_common(1)[0]
        yield f"  {recipe}: {plan} ({count} of {counts.total()})"


def adjacent_pairs(
    plans: Iterable[Sequence[str]], degradations: dict[str, frozenset[str]]
) -> Iterator[str]:
    """Yields the degradations that neighbouring tools of a plan are for."""
    for plan in plans:
        for first, second in zip(plan, plan[1:], strict=False):
            if degradations[first] != degradations[second]:
                before, after = ("/".join(sorted(degradations[name])) for name in (first, second))
                yield f"{before} before {after}"


def format_counts(names: Iterable[str], limit: int | None = None) -> str:
    return ", ".join(f"{name} {count}" for name, count in Counter(names).most_common(limit))


def format_fraction(flags: Iterable[bool]) -> str:
    return f"{np.mean(list(flags)):.0%}"


def report(config: ReportConfig) -> None:
    """Prints the report."""
    console = Console(width=120, highlight=False, markup=False)
    agents = {
        name: [record.to_json() for record in records]
        for name, records in read_records(config.samples).items()
    }
    if config.agent not in agents:
        raise SettingError("agent", config.agent, f"one of {', '.join(agents)}")
    console.print(*differences(agents, config.agent))
    if config.baseline in agents and agents[config.baseline][0]["regret"] is not None:
        for name, rows in agents.items():
            if name != config.baseline:
                closed = format_interval(gap_closed(rows, agents[config.baseline]), signed=True)
                console.print(f"{name} closes {closed} of the gap from {config.baseline} to the best plans")
    console.print(*describe_plans(agents[config.agent], Toolbox.load(config.toolbox)), sep="\n")


if __name__ == "__main__":
    run_program(ReportConfig, report)
