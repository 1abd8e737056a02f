"""The tables and the footnote that ``opera-env compare`` prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.table import Table

from opera_env.agents import BLIND_SUFFIX
from opera_env.cli.compare_names import LITERATURE_AGENTS
from opera_env.console import Console
from opera_env.evaluation.report import paired_difference
from opera_env.evaluation.stats import ConfidenceInterval, format_interval

SHIPPED_AGENTS = (
    *("untouched", "random", "fixed_order", "detect", "matched", "recipe_best"),
    *("single", "greedy", "beam", "exhaustive", "planner", "ppo", "vlm"),
    *("vlm_stepwise", "api", "api_stepwise"),
    *("agenticir", "restoreagent", "qagent", "mair", "4kagent", "mcts", "simplecall", "rl_restore", "llm"),
)
"""The agents that come with the package; every other name is an agent of the user's own."""

_SHIPPED_PROFILES = ("4kagent:fidelity", "4kagent:perception")
"""Agents of the package that have a profile in their names."""

_SHIPPED_PAIRS = (
    ("planner", "detect"),
    ("planner", "matched"),
    ("ppo", "detect"),
    ("ppo", "planner"),
    ("exhaustive", "matched"),
)
"""Differences that are printed if there is no agent of the user's own."""

_NAME_WIDTH = 12
"""Narrowest column of names, in characters; a terminal that is too narrow for it wraps the lines."""

_NON_METRIC_KEYS = {"reward", "tools", "images_scored", "tools_run", "seconds", "regret", "errors"}


def print_tables(console: Console, summary: Mapping[str, Any]) -> None:
    """Prints the table of rewards and costs, then that of the metrics.

    The name of an agent is continued on the next line where the terminal is narrow, and never cut; numbers
    are never cut either. In a file, every row is one line.

    Args:
        console: Where to print.
        summary: What :func:`opera_env.evaluation.report.summarise` returns.
    """
    for table in (_reward_table, _metric_table):
        narrowest = table(summary, _NAME_WIDTH if console.is_terminal else None)
        console.print_uncut(table(summary), narrowest)


def _reward_table(summary: Mapping[str, Any], name_width: int | None = None) -> Table:
    """Returns the table of rewards and costs; ``name_width`` bounds the column of the names."""
    agents: Mapping[str, Mapping[str, Any]] = summary["agents"]
    groups = sorted({group for row in summary["groups"].values() for group in row})
    config = summary["config"]
    has_regret = any(row["regret"] is not None for row in agents.values())
    title = f"{config['num_samples']} samples of {config['source']}, reward {config['reward']}"
    table = Table(title=title, box=box.SIMPLE, padding=(0, 0, 0, 1), pad_edge=False)
    table.add_column("agent", overflow="fold", max_width=name_width)
    has_budget = config.get("budget") is not None
    columns = ["reward (95 %)", *groups, "tools", *(["run"] if has_budget else []), "scored", "s"]
    columns += ["regret"] if has_regret else []
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for name, row in agents.items():
        means = summary["groups"][name]
        cells = [
            format_interval(ConfidenceInterval(**row["reward"])),
            *(f"{means[group]:.2f}" for group in groups),
            f"{row['tools']:.1f}",
            *([str(row["tools_run"])] if has_budget else []),
            str(row["images_scored"]),
            f"{row['seconds']:.0f}",
        ]
        if has_regret:
            cells.append("" if row["regret"] is None else f"{row['regret']:.2f}")
        table.add_row(name, *cells)
    return table


def _metric_table(summary: Mapping[str, Any], name_width: int | None = None) -> Table:
    """Returns the table of the metrics; ``name_width`` bounds the column of the names."""
    agents: Mapping[str, Mapping[str, Any]] = summary["agents"]
    metrics = [key for key in next(iter(agents.values())) if key not in _NON_METRIC_KEYS]
    table = Table(box=box.SIMPLE, pad_edge=False)
    table.add_column("agent", overflow="fold", max_width=name_width)
    for metric in metrics:
        table.add_column(metric, justify="right", no_wrap=True)
    for name, row in agents.items():
        table.add_row(name, *(f"{row[key]:.{3 if abs(row[key]) < 2 else 2}f}" for key in metrics))
    return table


def footnote(summary: Mapping[str, Any]) -> str:
    """Returns what the columns mean, the paired differences, and the time that the comparison took."""
    config = summary["config"]
    groups = sorted({group for row in summary["groups"].values() for group in row})
    lines = ["reward: R_q less tool cost, with a 95 % bootstrap interval over source images"]
    if groups:
        lines.append(f"{', '.join(groups)}: mean reward of each benchmark group")
    lines.append("scored: results whose score the agent saw before it decided; s: seconds to decide")
    if config.get("budget") is not None:
        lines.append(f"run: tools run before the agent decided, at most {config['budget']} for an image")
    if config["frozen_set_size"] is not None:
        lines.append(f"regret: to the best of {config['frozen_set_size']:.0f} plans per sample")
    for agent, other in _reported_pairs(summary["agents"]):
        interval = format_interval(paired_difference(summary, agent, other), signed=True)
        lines.append(f"{agent} - {other}: {interval}, paired")
    threads = "thread" if config["threads"] == 1 else "threads"
    lines.append(f"{config['seconds']:.0f} s on {config['device']}, {config['threads']} {threads}")
    return "\n".join(lines)


def _reported_pairs(agents: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Lists the pairs whose difference is printed: each own agent with each other agent."""
    shipped = (*SHIPPED_AGENTS, *_SHIPPED_PROFILES)
    own = [name for name in agents if name.removesuffix(BLIND_SUFFIX) not in shipped]
    if not own:
        literature = [("planner", name) for name in agents if name in LITERATURE_AGENTS]
        return [pair for pair in (*_SHIPPED_PAIRS, *literature) if set(pair) <= set(agents)]
    pairs: list[tuple[str, str]] = []
    for position, name in enumerate(own):
        pairs += [(name, other) for other in agents if other not in own]
        pairs += [(name, other) for other in own[:position]]
    return pairs
