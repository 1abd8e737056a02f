"""Summary of a comparison: means, intervals, costs, regret and paired differences."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from opera_env.degradations import benchmark_group
from opera_env.errors import ResultsError, SampleError, error_message
from opera_env.evaluation.compare import Comparison, Record
from opera_env.evaluation.stats import ConfidenceInterval, bootstrap_interval


def summarise(comparison: Comparison) -> dict[str, Any]:
    """Summarises the records of a comparison.

    Args:
        comparison: The result of :func:`opera_env.evaluation.compare.compare_agents`.

    Returns:
        A dictionary of JSON types. ``agents``: by name the reward with its interval, mean metrics, tools
        per plan, costs and regret. ``groups``: by agent and benchmark group the mean reward, in which
        each of the group's recipes has the same weight. ``differences``: paired differences of rewards
        with their intervals, each agent less each agent listed before it. ``config``: how the agents were
        compared, with the number of samples.
    """
    by_agent: dict[str, list[Record]] = {}
    for record in comparison.records:
        by_agent.setdefault(record.agent, []).append(record)
    images = [record.spec.source_image for record in next(iter(by_agent.values()))]
    seed = comparison.config.seed
    rewards = {name: np.array([record.reward for record in rows]) for name, rows in by_agent.items()}
    agents: dict[str, Any] = {}
    for name, rows in by_agent.items():
        cost = comparison.costs[name]
        regrets = [record.regret for record in rows if record.regret is not None]
        agents[name] = {
            "reward": asdict(bootstrap_interval(list(rewards[name]), images, seed)),
            **{key: float(np.mean([row.metrics[key] for row in rows])) for key in rows[0].metrics},
            "tools": float(np.mean([len(row.plan) for row in rows])),
            "images_scored": cost.images_scored,
            "tools_run": cost.tools_run,
            "seconds": cost.seconds,
            "regret": float(np.mean(regrets)) if regrets else None,
            "errors": sum(row.error is not None for row in rows),
        }
    names = list(by_agent)
    differences = {
        f"{later} - {earlier}": asdict(
            bootstrap_interval(list(rewards[later] - rewards[earlier]), images, seed)
        )
        for position, later in enumerate(names)
        for earlier in names[:position]
    }
    config = asdict(comparison.config)
    config["reward"] = getattr(comparison.config.reward, "name", comparison.config.reward)
    config |= {
        "frozen_set_size": comparison.frozen_set_size,
        "num_samples": len(images),
        **comparison.toolbox,
    }
    return {
        "agents": agents,
        "groups": {name: _group_means(rows) for name, rows in by_agent.items()},
        "differences": differences,
        "config": config,
    }


def read_records(path: Path) -> dict[str, list[Record]]:
    """Reads the records that a comparison has written, by agent.

    Args:
        path: The ``.jsonl`` file that ``opera-env compare --json`` writes beside its ``.json`` file.

    Raises:
        ResultsError: If the file holds something else, or the agents were not run on the same samples.
        OSError: If it cannot be read.
    """
    by_agent: dict[str, list[Record]] = {}
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
        try:
            record = Record.from_json(json.loads(line))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, SampleError) as error:
            raise ResultsError(
                f"{path}, line {number}: expected a record of opera-env compare as JSON, found "
                f"{error_message(error)[:80]}: compare again, or name the .jsonl file."
            ) from error
        by_agent.setdefault(record.agent, []).append(record)
    if not by_agent:
        raise ResultsError(
            f"{path}: expected records of opera-env compare, found an empty file: compare again."
        )
    first, *others = by_agent.items()
    for name, records in others:
        if [record.spec for record in records] != [record.spec for record in first[1]]:
            raise ResultsError(
                f"{path}: expected the same samples for all agents, found others for {first[0]} and "
                f"{name}: the file is incomplete, compare again."
            )
    return by_agent


def paired_difference(summary: Mapping[str, Any], agent: str, other: str) -> ConfidenceInterval:
    """Returns the mean reward of an agent less that of another, with its interval.

    Args:
        summary: What :func:`summarise` returns.
        agent: Name of an agent of the comparison.
        other: Name of another agent of the comparison, in any order.
    """
    differences = summary["differences"]
    if f"{agent} - {other}" in differences:
        return ConfidenceInterval(**differences[f"{agent} - {other}"])
    reverse = ConfidenceInterval(**differences[f"{other} - {agent}"])
    return ConfidenceInterval(-reverse.mean, -reverse.high, -reverse.low)


def _group_means(rows: Sequence[Record]) -> dict[str, float]:
    """Returns the mean reward of each benchmark group: the unweighted mean over its recipes."""
    groups: dict[str, dict[tuple[str, ...], list[float]]] = {}
    for row in rows:
        group = benchmark_group(row.spec.recipe)
        if group is not None:
            groups.setdefault(group, {}).setdefault(row.spec.recipe, []).append(row.reward)
    return {
        group: float(np.mean([np.mean(rewards) for rewards in rewards_by_recipe.values()]))
        for group, rewards_by_recipe in sorted(groups.items())
    }
