"""What everybody knows about order: undo first what happened last."""

from __future__ import annotations

from collections.abc import Iterable

from opera_env.degradations import DEGRADATIONS
from opera_env.tools import Toolbox
from opera_env.types import Plan

DOMAIN_ORDER: tuple[str, ...] = tuple(reversed(DEGRADATIONS))
"""Storage before lens before scene: the reverse of how a photograph is damaged."""


def domain_plan(toolbox: Toolbox, degradations: Iterable[str]) -> Plan:
    """Returns one tool for each degradation, in domain order.

    Args:
        toolbox: Of the tools that are for a degradation, the first is taken; a degradation
            that no tool is for is left out.
        degradations: Names, in any order.
    """
    wanted = set(degradations)
    plan: list[str] = []
    for degradation in DOMAIN_ORDER:
        if degradation in wanted:
            plan += [tool.name for tool in toolbox if degradation in tool.degradations][:1]
    return tuple(plan)
