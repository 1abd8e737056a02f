"""The empty plan: the result that every other agent should improve on."""

from __future__ import annotations

from collections.abc import Sequence

from opera_env.types import Decision, Observation


class Untouched:
    """Leaves every image as it is."""

    closed_loop = False

    def act(self, observations: Sequence[Observation]) -> list[Decision]:
        return [Decision(plan=()) for _ in observations]
