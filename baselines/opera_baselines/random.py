"""Random plans: a lower bound for agents that learn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from opera_env.seeding import content_seed
from opera_env.tools import Toolbox
from opera_env.types import Decision, Observation


class RandomPlans:
    """Draws a length uniformly, then each tool independently and uniformly.

    The length is drawn first so that all lengths are equally probable. If STOP were drawn among the
    tools, short plans would be more probable. An image gets the same plan in every batch and run; another
    seed gives it another one.

    Args:
        toolbox: The tools to draw from.
        max_tools: Maximum number of tools in a plan.
        seed: Seed of the plans, together with the image.
    """

    closed_loop = False

    def __init__(self, toolbox: Toolbox, max_tools: int = 6, seed: int = 0) -> None:
        self.names = toolbox.names
        self.max_tools = max_tools
        self.seed = seed

    def act(self, observations: Sequence[Observation]) -> list[Decision]:
        return [Decision(plan=self._draw(observation)) for observation in observations]

    def _draw(self, observation: Observation) -> tuple[str, ...]:
        rng = np.random.default_rng(content_seed(self.seed, observation.image))
        length = rng.integers(self.max_tools + 1)
        return tuple(self.names[index] for index in rng.integers(len(self.names), size=length))
