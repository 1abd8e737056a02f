"""Two agents restore the same degraded photograph, whose clean original is known."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from opera_env import weights
from opera_env.agents import make_agent, run_agent
from opera_env.data.read import read_size
from opera_env.data.sources.synthetic import SyntheticSource
from opera_env.errors import SettingError
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import Plan, Sample

_MIN_SIDE = 64
"""Shortest side of a photograph, in pixels, on which all metrics can be computed at a quarter."""


def default_reward() -> str:
    """Returns the preset ``lite``, or ``classic`` where the weights of LPIPS are absent."""
    return "lite" if weights.status("lpips") == "present" else "classic"


@dataclass(frozen=True, eq=False)
class Entry:
    """The result of an agent.

    Attributes:
        agent: Name of the agent.
        plan: Its plan.
        image: The result, float32 (3, H, W) in [0, 1].
        r_q: R_q of the result.
        metrics: The metrics of the reward by name.
        seconds: Seconds that the agent and its tools took.
    """

    agent: str
    plan: Plan
    image: Tensor
    r_q: float
    metrics: dict[str, float]
    seconds: float


def degrade_photograph(path: Path | str, recipe: Sequence[str], seed: int, side: int = 256) -> Sample:
    """Crops a clean photograph and degrades it.

    Args:
        path: The photograph.
        recipe: Names of degradations, in the order of their application; at least one.
        seed: Seed of the crop and of the strength of each degradation.
        side: Side of the square crop in pixels; that of the photograph, if it is smaller.

    Raises:
        SettingError: If there is no degradation, one occurs twice, or the photograph is too small.
        ImageFileError: If it cannot be read.
    """
    if not recipe or len(set(recipe)) < len(recipe):
        raise SettingError("recipe", ",".join(recipe), "one or more degradations, each once")
    height, width = read_size(path)
    side = min(side, height, width) // 4 * 4  # low resolution divides the side by 4
    if side < _MIN_SIDE:
        raise SettingError("photograph", f"{width} x {height}", f"at least {_MIN_SIDE} pixels a side")
    source = SyntheticSource([Path(path)], "demo", canvas=side)
    (spec,) = source.list_specs(1, [tuple(recipe)], np.random.default_rng(seed))
    return source.make(spec)


def hold_contest(
    sample: Sample, agents: Sequence[str], toolbox: Toolbox, max_tools: int = 6
) -> tuple[Entry, list[Entry]]:
    """Lets agents restore a sample, and scores the results against the reference.

    Searches are scored by the critic while they search, as for a photograph.

    Args:
        sample: A sample with its reference.
        agents: Names of agents.
        toolbox: The tools.
        max_tools: Maximum number of tools in a plan.

    Returns:
        The input as the entry ``untouched``, and an entry for each agent.
    """
    scorer = PlanScorer(toolbox, default_reward())
    blind = PlanScorer(toolbox, "label_free")
    (before,) = scorer.score([sample], [()])
    entries: list[Entry] = []
    for name in agents:
        start = time.perf_counter()
        agent = make_agent(name, toolbox=toolbox, max_tools=max_tools, seed=0, tool_cost=0.1)
        needs_labels = name == "matched"  # the baseline that is told the degradations
        (plan,) = run_agent(agent, [sample if needs_labels else sample.blind()], blind, max_tools).plans
        (outcome,) = scorer.score([sample], [plan])
        seconds = time.perf_counter() - start
        entries.append(Entry(name, plan, outcome.image(), outcome.r_q, dict(outcome.metrics), seconds))
    return Entry("untouched", (), before.image(), before.r_q, dict(before.metrics), 0.0), entries
