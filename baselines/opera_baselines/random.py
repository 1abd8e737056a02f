"""Random plans: a lower bound for agents that learn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from opera_env.tools import Toolbox
from opera_env.types import Decision, Observation


class RandomPlans:
    """Draws a length uniformly, then each tool independently and uniformly.

    The length is drawn first so that all lengths are equally probable. If STOP were drawn among the
    tools, short plans would be more probable.

    Args:
        toolbox: The tools to draw from.
        max_tools: Maximum number of tools in a plan.
        seed: Seed of the generator.
    """

    closed_loop = False

    def __init__(self, toolbox: Toolbox, max_tools: int = 6, seed: int = 0) -> None:
        self.names = toolbox.names
        self.max_tools = max_tools
        self._rng = np.random.default_rng(seed)

    def act(self, observations: Sequence[Observation]) -> list[Decision]:
        return [Decision(plan=self._draw()) for _ in observations]

    def _draw(self) -> tuple[str, ...]:
        length = self._rng.integers(self.max_tools + 1)
        return tuple(self.names[index] for index in self._rng.integers(len(self.names), size=length))
