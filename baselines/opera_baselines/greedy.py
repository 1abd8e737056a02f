"""Greedy search: the plan is extended by the best next tool."""

from __future__ import annotations

from collections.abc import Sequence

from opera_env.search import plan_rewards
from opera_env.types import Plan, Sample, Scorer


class Greedy:
    """Extends each plan by the tool that raises the reward most, until no tool raises it.

    Args:
        max_tools: Maximum number of tools in a plan.
        tool_cost: Cost of each tool, subtracted from R_q.
        margin: Minimum improvement of the reward for which a tool is added.
    """

    def __init__(self, max_tools: int = 6, tool_cost: float = 0.0, margin: float = 0.0) -> None:
        self.max_tools = max_tools
        self.tool_cost = tool_cost
        self.margin = margin

    def count_plans(self, num_tools: int) -> int:
        """Returns the most plans that are scored for each sample."""
        return 1 + self.max_tools * num_tools

    def search(self, samples: Sequence[Sample], scorer: Scorer) -> list[Plan]:
        plans: list[Plan] = [()] * len(samples)
        rewards = plan_rewards(samples, plans, scorer, self.tool_cost)
        active = list(range(len(samples)))
        for _ in range(self.max_tools):
            candidates = [(index, (*plans[index], name)) for index in active for name in scorer.tool_names]
            candidate_rewards = plan_rewards(
                [samples[index] for index, _ in candidates],
                [plan for _, plan in candidates],
                scorer,
                self.tool_cost,
            )
            improved: set[int] = set()
            for (index, plan), reward in zip(candidates, candidate_rewards, strict=True):
                if reward > rewards[index] + (0.0 if index in improved else self.margin):
                    plans[index], rewards[index] = plan, reward
                    improved.add(index)
            active = sorted(improved)
            if not active:
                break
        return plans
