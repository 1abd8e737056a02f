"""Exhaustive search: every plan up to a length is scored."""

from __future__ import annotations

from collections.abc import Sequence

from opera_env.search import all_plans, best_plan, plan_rewards
from opera_env.types import Plan, Sample, Scorer


class Exhaustive:
    """Scores all plans up to a length, with repeated tools; N tools have N^L plans of length L.

    Args:
        max_length: Maximum length of the plans that are scored.
        max_tools: Maximum number of tools in a plan, which also bounds ``max_length``.
        tool_cost: Cost of each tool, subtracted from R_q.
        margin: Among plans whose reward is within ``margin`` of the best, the shortest is returned.
    """

    def __init__(
        self, max_length: int = 2, max_tools: int = 6, tool_cost: float = 0.0, margin: float = 0.0
    ) -> None:
        self.max_length = min(max_length, max_tools)
        self.tool_cost = tool_cost
        self.margin = margin

    def count_plans(self, num_tools: int) -> int:
        """Returns the number of plans that are scored for each sample."""
        return sum(num_tools**length for length in range(self.max_length + 1))

    def search(self, samples: Sequence[Sample], scorer: Scorer) -> list[Plan]:
        plans = all_plans(scorer.tool_names, self.max_length)
        chosen: list[Plan] = []
        for sample in samples:  # One image at a time: its plans share most of their work.
            rewards = plan_rewards([sample] * len(plans), plans, scorer, self.tool_cost)
            chosen.append(best_plan(dict(zip(plans, rewards, strict=True)), self.margin))
        return chosen
