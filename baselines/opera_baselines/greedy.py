"""Takes the tool that helps most now, again and again."""

from __future__ import annotations

from collections.abc import Sequence

from opera_env.search import plan_rewards
from opera_env.types import Plan, Sample, Scorer


class Greedy:
    """Extends the plan by the best next tool until none helps.

    Args:
        max_tools: Longest plan.
        tool_cost: What a tool must earn.
        margin: How much more than its cost a tool must earn.
    """

    def __init__(self, max_tools: int = 6, tool_cost: float = 0.0, margin: float = 0.0) -> None:
        self.max_tools = max_tools
        self.tool_cost = tool_cost
        self.margin = margin

    def search(self, samples: Sequence[Sample], scorer: Scorer) -> list[Plan]:
        plans: list[Plan] = [()] * len(samples)
        scores = plan_rewards(samples, plans, scorer, self.tool_cost)
        going = list(range(len(samples)))
        for _ in range(self.max_tools):
            tries = [(index, (*plans[index], name)) for index in going for name in scorer.tool_names]
            found = plan_rewards(
                [samples[index] for index, _ in tries], [plan for _, plan in tries], scorer, self.tool_cost
            )
            improved: set[int] = set()
            for (index, plan), score in zip(tries, found, strict=True):
                if score > scores[index] + (0.0 if index in improved else self.margin):
                    plans[index], scores[index] = plan, score
                    improved.add(index)
            going = sorted(improved)
            if not going:
                break
        return plans
