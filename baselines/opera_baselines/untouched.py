"""Does nothing: what every other agent has to beat."""

from __future__ import annotations

from collections.abc import Sequence

from opera_env.types import Decision, Observation


class Untouched:
    """Leaves every image alone."""

    closed_loop = False

    def act(self, observations: Sequence[Observation]) -> list[Decision]:
        return [Decision(plan=()) for _ in observations]
