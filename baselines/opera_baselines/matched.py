"""One tool for each true degradation: the plan of most published agents if their detection is perfect."""

from __future__ import annotations

from collections.abc import Sequence

from opera_baselines.order import domain_plan
from opera_env.degradations import DEGRADATIONS
from opera_env.errors import SampleError
from opera_env.tools import Toolbox
from opera_env.types import Plan, Sample, Scorer


class Matched:
    """Reads a sample's degradations and applies one tool for each, in domain order.

    It is a search, because only searches see samples; but it scores no plan. It reads the set of
    degradations, not the order in which they were applied.

    Args:
        toolbox: The tools.
        max_tools: Maximum number of tools in a plan; longer plans are cut.
        labels: Names of degradations in the order in which recipes apply them; see
            :func:`opera_baselines.order.domain_plan`.
    """

    def __init__(self, toolbox: Toolbox, max_tools: int = 6, labels: Sequence[str] = DEGRADATIONS) -> None:
        self.toolbox = toolbox
        self.max_tools = max_tools
        self.labels = labels

    def search(self, samples: Sequence[Sample], scorer: Scorer) -> list[Plan]:
        """Returns the plan of each sample.

        Raises:
            SampleError: If the degradations of a sample are unknown.
        """
        plans: list[Plan] = []
        for sample in samples:
            if sample.degradations is None:
                raise SampleError(
                    f"'matched' needs the degradations of a sample, and those of {sample.spec} are "
                    "unknown: leave this agent out."
                )
            plans.append(domain_plan(self.toolbox, sample.degradations, self.labels)[: self.max_tools])
        return plans
