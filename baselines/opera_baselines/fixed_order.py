"""One constant plan: a tool for each degradation, in domain order."""

from __future__ import annotations

from collections.abc import Sequence

from opera_baselines.order import DOMAIN_ORDER, domain_plan
from opera_env.tools import Toolbox
from opera_env.types import Decision, Observation


class FixedOrder:
    """Applies one tool for each degradation to every image, whether or not it is degraded.

    Args:
        toolbox: The tools.
        max_tools: Length to which the plan is cut.
    """

    closed_loop = False

    def __init__(self, toolbox: Toolbox, max_tools: int = 6) -> None:
        self.plan = domain_plan(toolbox, DOMAIN_ORDER)[:max_tools]

    def act(self, observations: Sequence[Observation]) -> list[Decision]:
        return [Decision(plan=self.plan) for _ in observations]
