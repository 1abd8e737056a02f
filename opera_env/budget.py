"""Searches with a budget: a limit on the tools that run for one image before the decision.

The budget is counted in the same way for every search. A plan costs the tools that have to run for its
result: those after its longest prefix whose result is known, and prefixes that plans of one call have in
common count once. That is what an executor with a :class:`opera_env.execution.PrefixCache` runs. Each
result that is judged needs at least one tool of its own, so the budget bounds the judged results as well.
The input image is judged for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from opera_env.errors import BudgetSpentError
from opera_env.reward import env_reward
from opera_env.search import PlanRewards, best_plan
from opera_env.types import Outcome, Plan, Sample, Scorer


@dataclass
class _Account:
    """What has been run and judged for one image.

    Attributes:
        tools_run: Number of tools that have run.
        rewards: Rewards of the plans that were judged.
    """

    tools_run: int = 0
    rewards: PlanRewards = field(default_factory=dict)

    def new_prefixes(self, plan: Plan) -> set[Plan]:
        """Returns the prefixes of a plan that have to run for its result."""
        known = next((n for n in range(len(plan), 0, -1) if plan[:n] in self.rewards), 0)
        return {plan[:length] for length in range(known + 1, len(plan) + 1)}


class BudgetedScorer:
    """A scorer with which a search may run a limited number of tools for each image.

    Args:
        scorer: Scores the plans.
        budget: Maximum number of tools that run for one image, at least 1.
        tool_cost: Cost of each tool of a plan, by which :meth:`best_plan` compares.
    """

    def __init__(self, scorer: Scorer, budget: int, tool_cost: float = 0.0) -> None:
        self._scorer, self._budget, self._tool_cost = scorer, budget, tool_cost
        self._accounts: dict[str, _Account] = {}

    @property
    def tool_names(self) -> tuple[str, ...]:
        """Names of the tools that plans may contain."""
        return self._scorer.tool_names

    def tools_run(self, sample: Sample) -> int:
        """Returns the number of tools that have run for an image."""
        return self._account(sample).tools_run

    def images_scored(self, sample: Sample) -> int:
        """Returns the number of plans that were judged on an image."""
        return len(self._account(sample).rewards)

    def best_plan(self, sample: Sample) -> Plan:
        """Returns the best plan that was judged on an image; the empty plan if none was judged."""
        return best_plan(self._account(sample).rewards or {(): 0.0})

    def score(
        self, samples: Sequence[Sample], plans: Sequence[Plan], *, restored: bool = True
    ) -> list[Outcome]:
        """Scores plans as long as the budget lasts, in the order in which they are given.

        Raises:
            BudgetSpentError: If a plan needs more tools than the budget of its image has left. The plans
                before it have been run and judged, and :meth:`best_plan` knows them.
        """
        running: dict[str, set[Plan]] = {}
        missing, count = 0, len(plans)
        for position, (sample, plan) in enumerate(zip(samples, plans, strict=True)):
            account, prefixes = self._account(sample), running.setdefault(sample.key, set())
            new = account.new_prefixes(plan) - prefixes
            missing = account.tools_run + len(prefixes) + len(new) - self._budget
            if new and missing > 0:
                count = position
                break
            prefixes |= new
        outcomes = self._scorer.score(samples[:count], plans[:count], restored=restored) if count else []
        for sample, plan, outcome in zip(samples, plans, outcomes, strict=False):
            self._account(sample).rewards[plan] = env_reward(outcome, self._tool_cost)
        for key, prefixes in running.items():
            self._accounts[key].tools_run += len(prefixes)
        if count < len(plans):
            raise BudgetSpentError(
                f"expected at most {self._budget} tools to run for an image, as its budget says, found a "
                f"plan that needs {missing} more: return the best plan so far, or raise the budget."
            )
        return outcomes

    def _account(self, sample: Sample) -> _Account:
        return self._accounts.setdefault(sample.key, _Account())
