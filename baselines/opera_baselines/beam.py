"""Beam search over plans."""

from __future__ import annotations

from collections.abc import Sequence

from opera_env.search import beam_search, best_plan
from opera_env.types import Plan, Sample, Scorer


class Beam:
    """Extends the best prefixes of each length and returns the best plan of any length.

    The result is never worse than greedy search's, because greedy's prefix always stays in the beam.

    Args:
        width: Beam width: number of prefixes kept for each length.
        max_tools: Maximum number of tools in a plan.
        tool_cost: Cost of each tool, subtracted from R_q.
        margin: Among plans whose reward is within ``margin`` of the best, the shortest is returned.
    """

    def __init__(
        self, width: int = 8, max_tools: int = 6, tool_cost: float = 0.0, margin: float = 0.0
    ) -> None:
        self.width = width
        self.max_tools = max_tools
        self.tool_cost = tool_cost
        self.margin = margin

    def count_plans(self, num_tools: int) -> int:
        """Returns the most plans that are scored for each sample."""
        beams = [min(self.width, num_tools**length) for length in range(self.max_tools)]
        return 1 + num_tools * sum(beams)

    def search(self, samples: Sequence[Sample], scorer: Scorer) -> list[Plan]:
        rewards_per_sample = beam_search(samples, scorer, self.width, self.max_tools, self.tool_cost)
        return [best_plan(rewards, self.margin) for rewards in rewards_per_sample]
