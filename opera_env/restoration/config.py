"""The settings of a restorer and their default values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the module imports torch, which the help of the command line can do without
    from opera_env.types import Plan

DEFAULT_TOOLBOX, DEFAULT_AGENT = "lite-cotrained", "planner:lite-cotrained"
"""The best toolbox and the best agent that needs no reference; docs/restoring.md has the figures."""


@dataclass(frozen=True)
class RestorerConfig:
    """Settings of the restoration of photographs.

    Attributes:
        agent: The agent that plans: a name as :func:`opera_env.agents.make_agent` takes it. A search
            is blind here, with or without ``-blind``, because a photograph has no reference.
        plan: A plan for every photograph; no agent is used then.
        fix: Degradations that a person has named; the plan is then chosen for these by
            :class:`opera_env.restoration.fix.FixSearch`, and no agent is used.
        scale: Side of the result divided by the side of the photograph.
        max_tools: Maximum number of tools in a plan.
        tool_cost: Cost of each tool, in units of R_q (0 to 10), for agents that use it.
        num_plans: Number of plans that an agent samples, if it can sample several. It chooses among these
            and the unchanged photograph; with 1 it takes its most likely plan and scores none.
        window: Side, in pixels, of the window of the photograph on which plans are scored, and which the
            agent sees unless it can see photographs of any size; 0 for the whole photograph. The time of a
            search grows with the area.
        max_memory: Bytes that the process may use, images included; None for 2.5 GB, or for what a
            larger photograph needs if half of the free memory is enough.
        max_seconds: Seconds that planning and tools may take for one photograph; None for no limit.
        eager: From 0, leave alone in doubt, to 1, act in doubt; see
            :func:`opera_env.restoration.choice.eager_bonus`. It needs an agent whose plans are scored.
        strength: Share of the result in its blend with the photograph, from 0 to 1; None lets the critic
            choose.
        variants: Number of plans with tools that should be tried, so that a person can choose among their
            results; those for the most probable degradations are added to the agent's.
        seed: Seed of agents that sample.
    """

    agent: str = DEFAULT_AGENT
    plan: Plan | None = None
    fix: tuple[str, ...] = ()
    scale: int = 1
    max_tools: int = 6
    tool_cost: float = 0.1
    num_plans: int = 2
    window: int = 256
    max_memory: int | None = None
    max_seconds: float | None = None
    eager: float = 0.5
    strength: float | None = 1.0
    variants: int = 0
    seed: int = 0
