"""Tries every plan up to a length."""

from __future__ import annotations

from collections.abc import Sequence

from opera_env.search import all_plans, best_plan, plan_rewards
from opera_env.types import Plan, Sample, Scorer


class Exhaustive:
    """Tries all plans up to a length, repeats included: with N tools, N^length of the longest.

    Args:
        max_length: Longest plan tried.
        max_tools: Longest plan allowed.
        tool_cost: What a tool must earn.
        margin: Of plans this close to the best, the shortest is returned.
    """

    def __init__(
        self, max_length: int = 2, max_tools: int = 6, tool_cost: float = 0.0, margin: float = 0.0
    ) -> None:
        self.max_length = min(max_length, max_tools)
        self.tool_cost = tool_cost
        self.margin = margin

    def search(self, samples: Sequence[Sample], scorer: Scorer) -> list[Plan]:
        plans = all_plans(scorer.tool_names, self.max_length)
        chosen: list[Plan] = []
        for sample in samples:  # one at a time: all plans of an image share most of their work
            scores = plan_rewards([sample] * len(plans), plans, scorer, self.tool_cost)
            chosen.append(best_plan(dict(zip(plans, scores, strict=True)), self.margin))
        return chosen
