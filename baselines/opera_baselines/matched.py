"""One tool for each true degradation: what most published agents aim at, with perfect eyesight."""

from __future__ import annotations

from collections.abc import Sequence

from opera_baselines.order import domain_plan
from opera_env.errors import SampleError
from opera_env.tools import Toolbox
from opera_env.types import Plan, Sample, Scorer


class Matched:
    """Is told what is wrong with an image and mends each thing once, in domain order.

    A search that tries nothing: it reads the labels, not the order they were applied in.

    Args:
        toolbox: The tools.
        max_tools: The plan is cut after this many.
    """

    def __init__(self, toolbox: Toolbox, max_tools: int = 6) -> None:
        self.toolbox = toolbox
        self.max_tools = max_tools

    def search(self, samples: Sequence[Sample], scorer: Scorer) -> list[Plan]:
        """Returns the matched plans.

        Raises:
            SampleError: If a sample's degradations are not known.
        """
        plans: list[Plan] = []
        for sample in samples:
            if sample.degradations is None:
                raise SampleError(
                    f"'matched' must be told the degradations, and nobody knows those of {sample.spec}: "
                    "leave this agent out."
                )
            plans.append(domain_plan(self.toolbox, sample.degradations)[: self.max_tools])
        return plans
