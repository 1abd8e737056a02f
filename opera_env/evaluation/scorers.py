"""Scorers that keep outcomes: each plan is run and judged once, whichever agent asks for it."""

from __future__ import annotations

from collections.abc import Sequence

from opera_env.reward import env_reward
from opera_env.scoring import PlanScorer
from opera_env.types import Outcome, Plan, Sample


class CachingScorer:
    """A scorer that remembers: what any agent has tried need not be run again.

    Keeps the first value seen for each plan, so that all agents are judged by the same one.

    Args:
        scorer: Asked for what is not known yet.
    """

    def __init__(self, scorer: PlanScorer) -> None:
        self.scorer = scorer
        self.known: dict[tuple[str, Plan], Outcome] = {}

    @property
    def tool_names(self) -> tuple[str, ...]:
        return self.scorer.tool_names

    def score(
        self, samples: Sequence[Sample], plans: Sequence[Plan], *, restored: bool = True
    ) -> list[Outcome]:
        """Scores what is new; remembered outcomes carry no image."""
        new = [
            (sample, plan)
            for sample, plan in zip(samples, plans, strict=True)
            if (sample.key, plan) not in self.known
        ]
        if new:
            found = self.scorer.score(
                [sample for sample, _ in new], [plan for _, plan in new], restored=False
            )
            self.note([sample for sample, _ in new], [plan for _, plan in new], found)
        return [self.known[sample.key, plan] for sample, plan in zip(samples, plans, strict=True)]

    def note(self, samples: Sequence[Sample], plans: Sequence[Plan], outcomes: Sequence[Outcome]) -> None:
        """Remembers outcomes that somebody else has scored."""
        for sample, plan, outcome in zip(samples, plans, outcomes, strict=True):
            self.known.setdefault((sample.key, plan), outcome)

    def best(self, sample: Sample, plans: Sequence[Plan], tool_cost: float) -> float:
        """Returns the best reward among plans that are known."""
        return max(env_reward(self.known[sample.key, plan], tool_cost) for plan in plans)


class _RecordingScorer:
    """Passes an agent's questions on to a scorer and notes the answers in a ledger."""

    def __init__(self, scorer: PlanScorer, ledger: CachingScorer) -> None:
        self.scorer, self.ledger = scorer, ledger

    @property
    def tool_names(self) -> tuple[str, ...]:
        return self.scorer.tool_names

    def score(
        self, samples: Sequence[Sample], plans: Sequence[Plan], *, restored: bool = True
    ) -> list[Outcome]:
        outcomes = self.scorer.score(samples, plans, restored=restored)
        self.ledger.note(samples, plans, outcomes)
        return outcomes
