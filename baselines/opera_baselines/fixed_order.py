"""One constant plan: a tool for each degradation, in domain order."""

from __future__ import annotations

from collections.abc import Sequence

from opera_baselines.order import domain_plan
from opera_env.degradations import DEGRADATIONS
from opera_env.tools import Toolbox
from opera_env.types import Decision, Observation


class FixedOrder:
    """Applies one tool for each degradation to every image, whether or not it is degraded.

    Args:
        toolbox: The tools.
        max_tools: Maximum number of tools in a plan; longer plans are cut.
        labels: The degradations, in the order in which recipes apply them.
    """

    closed_loop = False

    def __init__(self, toolbox: Toolbox, max_tools: int = 6, labels: Sequence[str] = DEGRADATIONS) -> None:
        self.plan = domain_plan(toolbox, labels, labels)[:max_tools]

    def act(self, observations: Sequence[Observation]) -> list[Decision]:
        return [Decision(plan=self.plan) for _ in observations]
