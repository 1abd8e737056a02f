"""Plans for degradations that a person has named."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod

from opera_env.degradations import DEGRADATIONS
from opera_env.errors import OutputError, UnknownDegradationError
from opera_env.search import best_plan, plan_rewards
from opera_env.tools import Toolbox
from opera_env.types import Decision, Plan, Sample, Scorer

MAX_CANDIDATES = 32
"""Maximum number of plans that are scored for one photograph, besides the empty plan."""


class FixSearch:
    """Chooses one tool for each named degradation; the scorer decides which tools.

    The order is fixed: the degradation that happens last to a photograph is restored first (the reverse of
    :data:`opera_env.degradations.DEGRADATIONS`); custom degradations come after these, in the order of
    the toolbox, because a toolbox does not record their stage. A candidate has one suitable tool for each
    degradation; all combinations are scored, and the one with the highest score is kept. The unchanged
    photograph is scored for comparison, but it is not a candidate: a person has named what to restore.

    Where there are more than :data:`MAX_CANDIDATES` combinations, the first tools of the toolbox for each
    degradation take part.

    Args:
        toolbox: The tools; the ``degradations`` of each are those that it removes.
        degradations: Names of the degradations, in any order.
        max_tools: Maximum number of tools in a plan.
        tool_cost: Cost of each tool, in units of R_q.

    Raises:
        UnknownDegradationError: If no tool of the toolbox is for one of the degradations.
        OutputError: If there are more degradations than ``max_tools``.
    """

    def __init__(
        self, toolbox: Toolbox, degradations: Sequence[str], max_tools: int = 6, tool_cost: float = 0.0
    ) -> None:
        named = set(degradations)
        treatable = _treatable_degradations(toolbox)
        for name in degradations:
            if name not in treatable:
                raise UnknownDegradationError(name, treatable)
        if len(named) > max_tools:
            raise OutputError(
                f"expected at most {max_tools} degradations to fix, as many as a plan may have tools, "
                f"found {len(named)}: name fewer, or raise --max-tools"
            )
        self.degradations = frozenset(named)
        self.tool_cost = tool_cost
        self.candidates = _candidate_plans(toolbox, [name for name in treatable if name in named])

    def count_plans(self, num_tools: int) -> int:
        """Returns the number of plans that are scored for each sample, whatever the number of tools."""
        return 1 + len(self.candidates)

    def search(self, samples: Sequence[Sample], scorer: Scorer) -> list[Plan]:
        """Returns the candidate with the highest score for each sample."""
        return [decision.plan for decision in self.decide(samples, scorer)]

    def decide(self, samples: Sequence[Sample], scorer: Scorer) -> list[Decision]:
        """Returns the decision for the candidate with the highest score, for each sample."""
        plans: list[Plan] = [(), *self.candidates]
        decisions: list[Decision] = []
        for sample in samples:
            rewards = plan_rewards([sample] * len(plans), plans, scorer, self.tool_cost)
            scored = dict(zip(plans, rewards, strict=True))
            del scored[()]
            decisions.append(Decision(best_plan(scored), degradations=self.degradations))
        return decisions


def _treatable_degradations(toolbox: Toolbox) -> list[str]:
    """Lists the degradations that the toolbox has a tool for, in the order in which they are restored."""
    treatable = dict.fromkeys(name for tool in toolbox for name in sorted(tool.degradations))
    built_in = [name for name in reversed(DEGRADATIONS) if name in treatable]
    return [*built_in, *(name for name in treatable if name not in DEGRADATIONS)]


def _candidate_plans(toolbox: Toolbox, degradations: Sequence[str]) -> list[Plan]:
    """Lists all combinations of one suitable tool for each degradation, at most :data:`MAX_CANDIDATES`."""
    suitable = [[tool.name for tool in toolbox if name in tool.degradations] for name in degradations]
    max_choices = max(map(len, suitable))
    while max_choices > 1 and prod(min(max_choices, len(names)) for names in suitable) > MAX_CANDIDATES:
        max_choices -= 1
    combinations = product(*(names[:max_choices] for names in suitable))
    return list(dict.fromkeys(tuple(dict.fromkeys(plan)) for plan in combinations))
