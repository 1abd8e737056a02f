"""Domain order: the degradation that was applied last is removed first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from opera_env.degradations import DEGRADATIONS
from opera_env.tools import Toolbox
from opera_env.types import Plan


def domain_plan(
    toolbox: Toolbox, degradations: Iterable[str], labels: Sequence[str] = DEGRADATIONS
) -> Plan:
    """Returns one tool for each degradation, in domain order: sensor before lens before scene.

    Args:
        toolbox: The tools. The first tool that lists a degradation is taken; a degradation that no
            tool lists is skipped.
        degradations: Names in any order. Names that are not in ``labels`` come last, in alphabetical
            order, because a name alone does not say its stage.
        labels: Names of degradations in the order in which recipes apply them. Those of a data source,
            ``source.degradations``, put custom degradations in the place of their stage.
    """
    present = set(degradations)
    ordered = [name for name in reversed(labels) if name in present] + sorted(present.difference(labels))
    plan: list[str] = []
    for degradation in ordered:
        plan += [tool.name for tool in toolbox if degradation in tool.degradations][:1]
    return tuple(plan)
