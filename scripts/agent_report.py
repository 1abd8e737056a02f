"""Says what an agent does, and how it compares, from the samples that `opera-env compare --json` wrote.

opera-env compare --images bsds500/val --n 96 --agents random,detect,matched,planner --json out.json
python scripts/agent_report.py out.jsonl --agent planner
"""

from __future__ import annotations

import json
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

from opera_env.degradations import benchmark_group
from opera_env.evaluation.stats import ConfidenceInterval, bootstrap_interval
from opera_env.tools import Toolbox
from opera_env.types import SampleSpec

Row = dict[str, Any]
Value = Callable[[Row], float]


@dataclass(frozen=True)
class ReportConfig:
    """Prints one agent's paired differences to the others, the share of the gap it closes, its plans."""

    samples: tyro.conf.Positional[Path]
    """The .jsonl file of a comparison."""
    agent: str = "planner"
    """Whose report it is."""
    told: str = "matched"
    """The agent from which the gap to the best known plans is measured."""
    toolbox: str = "lite"
    """The toolbox that was played with; says what tools are for."""


def reward(row: Row) -> float:
    return row["reward"]


def psnr(row: Row) -> float:
    return row["metrics"]["psnr_y"]


def photograph(row: Row) -> tuple[str, int]:
    return row["spec"]["source"], row["spec"]["index"]


def difference(
    rows: Sequence[Row], others: Sequence[Row], value: Value, group: str | None = None
) -> ConfidenceInterval | None:
    """Paired difference with a 95 % interval over photographs; None if the group has no sample."""
    pairs = [
        (row, other)
        for row, other in zip(rows, others, strict=True)
        if group is None or benchmark_group(tuple(row["spec"]["recipe"])) == group
    ]
    values = [value(row) - value(other) for row, other in pairs]
    return bootstrap_interval(values, [photograph(row) for row, _ in pairs]) if pairs else None


def told(found: ConfidenceInterval, digits: int = 2) -> str:
    return f"{found.mean:+.{digits}f} ({found.low:+.{digits}f}..{found.high:+.{digits}f})"


def differences(agents: dict[str, list[Row]], agent: str) -> Iterator[Table]:
    """Yields the differences in reward and in PSNR, on all samples and by group."""
    for title, value in (("R_q", reward), ("PSNR-Y, dB", psnr)):
        table = Table(f"{agent} less", "all", "A", "B", "C", title=title, box=box.SIMPLE, pad_edge=False)
        for name, rows in agents.items():
            if name != agent:
                found = [difference(agents[agent], rows, value, group) for group in (None, "A", "B", "C")]
                table.add_row(name, *("" if one is None else told(one) for one in found))
        yield table


def gap_closed(rows: Sequence[Row], others: Sequence[Row], seed: int = 0) -> ConfidenceInterval:
    """The share of the way from the others' reward to the best known one, bootstrapped over photographs."""
    photographs = sorted({photograph(row) for row in rows})
    gains, gaps = defaultdict(float), defaultdict(float)
    for row, other in zip(rows, others, strict=True):
        gains[photograph(row)] += row["reward"] - other["reward"]
        gaps[photograph(row)] += other["regret"]
    gained = np.array([gains[name] for name in photographs])
    missing = np.array([gaps[name] for name in photographs])
    drawn = np.random.default_rng(seed).integers(len(photographs), size=(9999, len(photographs)))
    shares = gained[drawn].sum(1) / missing[drawn].sum(1)
    low, high = np.quantile(shares, [0.025, 0.975])
    return ConfidenceInterval(float(gained.sum() / missing.sum()), float(low), float(high))


def plan_statistics(rows: Sequence[Row], toolbox: Toolbox) -> Iterator[str]:
    """Yields what the plans have in common, a line each."""
    plans = [tuple(row["plan"]) for row in rows]
    lengths: dict[int, list[int]] = defaultdict(list)
    for row, plan in zip(rows, plans, strict=True):
        lengths[len(row["spec"]["recipe"])].append(len(plan))
    by_number = ", ".join(f"{np.mean(found):.1f} for {n}" for n, found in sorted(lengths.items()))
    yield f"tools per plan, by number of degradations: {by_number}"
    yield f"distinct plans: {len(set(plans))} of {len(plans)}"
    yield f"plans that repeat a tool: {share(len(set(plan)) < len(plan) for plan in plans)}"
    kinds = {tool.name: tool.degradations for tool in toolbox}
    yield "plans with two tools for one damage: " + share(
        any(kinds[a] & kinds[b] for a, b in combinations(plan, 2)) for plan in plans
    )
    yield "plans with a tool for a damage that is not there: " + share(
        any(not kinds[name] & set(row["spec"]["recipe"]) for name in plan)
        for row, plan in zip(rows, plans, strict=True)
    )
    yield "plans that leave a damage to itself: " + share(
        any(not any(wrong in kinds[name] for name in plan) for wrong in row["spec"]["recipe"])
        for row, plan in zip(rows, plans, strict=True)
    )
    yield "tools: " + counted(name for plan in plans for name in plan)
    yield "orders, by what the tools are for: " + counted(orders(plans, kinds), most=8)
    by_recipe: dict[str, Counter[str]] = defaultdict(Counter)
    for row, plan in zip(rows, plans, strict=True):
        by_recipe[" + ".join(row["spec"]["recipe"])][" > ".join(plan) or "nothing"] += 1
    for recipe, found in by_recipe.items():
        plan, count = found.most_common(1)[0]
        yield f"  {recipe}: {plan} ({count} of {found.total()})"


def orders(plans: Iterable[Sequence[str]], kinds: dict[str, frozenset[str]]) -> Iterator[str]:
    """Yields each pair of damages that neighbours in a plan are for."""
    for plan in plans:
        for a, b in zip(plan, plan[1:], strict=False):
            if kinds[a] != kinds[b]:
                yield f"{'/'.join(sorted(kinds[a]))} before {'/'.join(sorted(kinds[b]))}"


def counted(names: Iterable[str], most: int | None = None) -> str:
    return ", ".join(f"{name} {count}" for name, count in Counter(names).most_common(most))


def share(flags: Iterable[bool]) -> str:
    return f"{np.mean(list(flags)):.0%}"


def report(config: ReportConfig) -> None:
    """Prints it."""
    console = Console(width=120, highlight=False)
    agents: dict[str, list[Row]] = defaultdict(list)
    for line in config.samples.read_text().splitlines():
        row = json.loads(line)
        row["spec"] = SampleSpec.from_json(row["spec"]).to_json()
        agents[row["agent"]].append(row)
    console.print(*differences(agents, config.agent))
    if config.told in agents and agents[config.told][0]["regret"] is not None:
        for name, rows in agents.items():
            if name != config.told:
                closed = gap_closed(rows, agents[config.told])
                console.print(
                    f"{name} closes {told(closed)} of the gap from {config.told} to the best known plans"
                )
    console.print(*plan_statistics(agents[config.agent], Toolbox.load(config.toolbox)), sep="\n")


if __name__ == "__main__":
    report(tyro.cli(ReportConfig))
