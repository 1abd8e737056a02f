"""Domain order: the degradation that was applied last is removed first."""

from __future__ import annotations

from collections.abc import Iterable

from opera_env.degradations import DEGRADATIONS
from opera_env.tools import Toolbox
from opera_env.types import Plan

DOMAIN_ORDER: tuple[str, ...] = tuple(reversed(DEGRADATIONS))
"""Storage before lens before scene: the reverse of the order in which a photograph is degraded."""


def domain_plan(toolbox: Toolbox, degradations: Iterable[str]) -> Plan:
    """Returns one tool for each degradation, in domain order.

    Args:
        toolbox: The tools. The first tool that lists a degradation is taken; a degradation that no
            tool lists is skipped.
        degradations: Names in any order. Names that are not in :data:`DOMAIN_ORDER`, such as those of
            one's own degradations, come last, in alphabetical order.
    """
    present = set(degradations)
    ordered = [name for name in DOMAIN_ORDER if name in present] + sorted(present.difference(DOMAIN_ORDER))
    plan: list[str] = []
    for degradation in ordered:
        plan += [tool.name for tool in toolbox if degradation in tool.degradations][:1]
    return tuple(plan)
