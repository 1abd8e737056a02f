"""Keeps several prefixes at once, greedy's among them."""

from __future__ import annotations

from collections.abc import Sequence

from opera_env.search import beam_search, best_plan
from opera_env.types import Plan, Sample, Scorer


class Beam:
    """Extends the best prefixes of each length and returns the best plan of any length.

    Never worse than greedy, whose prefix always keeps one of the places.

    Args:
        width: Prefixes kept per length.
        max_tools: Longest plan.
        tool_cost: What a tool must earn.
        margin: Of plans this close to the best, the shortest is returned.
    """

    def __init__(
        self, width: int = 8, max_tools: int = 6, tool_cost: float = 0.0, margin: float = 0.0
    ) -> None:
        self.width = width
        self.max_tools = max_tools
        self.tool_cost = tool_cost
        self.margin = margin

    def search(self, samples: Sequence[Sample], scorer: Scorer) -> list[Plan]:
        tried = beam_search(samples, scorer, self.width, self.max_tools, self.tool_cost)
        return [best_plan(plans, self.margin) for plans in tried]
