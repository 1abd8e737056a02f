"""Scorers of a comparison: they keep outcomes for all agents, or restore images without scoring them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from opera_env.reward import env_reward
from opera_env.scoring import PlanScorer
from opera_env.types import Outcome, Plan, Sample, Scorer


class CachingScorer:
    """A scorer that keeps outcomes, so that no plan is run and scored twice.

    The first outcome of each plan is kept, so that all agents are scored by the same value.

    Args:
        scorer: Scores the plans that have no outcome yet.

    Attributes:
        outcomes: Outcomes without images, by key of the sample and plan.
    """

    def __init__(self, scorer: PlanScorer) -> None:
        self.scorer = scorer
        self.outcomes: dict[tuple[str, Plan], Outcome] = {}

    @property
    def tool_names(self) -> tuple[str, ...]:
        """Names of the tools that plans may contain."""
        return self.scorer.tool_names

    def score(
        self, samples: Sequence[Sample], plans: Sequence[Plan], *, restored: bool = True
    ) -> list[Outcome]:
        """Returns the outcome of one plan per sample, without images; known outcomes are reused."""
        new = [
            (sample, plan)
            for sample, plan in zip(samples, plans, strict=True)
            if (sample.key, plan) not in self.outcomes
        ]
        if new:
            new_samples, new_plans = [sample for sample, _ in new], [plan for _, plan in new]
            self.add(new_samples, new_plans, self.scorer.score(new_samples, new_plans, restored=False))
        return [self.outcomes[sample.key, plan] for sample, plan in zip(samples, plans, strict=True)]

    def add(self, samples: Sequence[Sample], plans: Sequence[Plan], outcomes: Sequence[Outcome]) -> None:
        """Keeps outcomes that another scorer has computed, without images, unless there is one already."""
        for sample, plan, outcome in zip(samples, plans, outcomes, strict=True):
            kept = outcome if outcome.restored is None else replace(outcome, restored=None)
            self.outcomes.setdefault((sample.key, plan), kept)

    def to_json(self, samples: Sequence[Sample], first: int = 0) -> list[Any]:
        """Returns the outcomes from the one of number ``first`` on, in JSON types.

        Args:
            samples: The samples; outcomes of others are left out.
            first: Number of the first outcome.
        """
        index_of = {sample.key: index for index, sample in enumerate(samples)}
        return [
            [index_of[key], plan, dict(outcome.metrics)]
            for (key, plan), outcome in islice(self.outcomes.items(), first, None)
            if key in index_of
        ]

    def add_json(self, samples: Sequence[Sample], rows: Sequence[Any]) -> None:
        """Adds what :meth:`to_json` has returned for the same samples and the same reward."""
        for index, names, metrics in rows:
            plan = tuple(names)
            terms = self.scorer.reward.contributions(metrics, plan)
            outcome = Outcome(None, metrics, terms, float(sum(terms.values())), len(plan))
            self.outcomes.setdefault((samples[index].key, plan), outcome)

    def best_reward(self, sample: Sample, plans: Sequence[Plan], tool_cost: float) -> float:
        """Returns the highest reward of plans on a sample; all of them must have been scored before."""
        return max(env_reward(self.outcomes[sample.key, plan], tool_cost) for plan in plans)


class RecordingScorer:
    """A scorer that adds each outcome to a :class:`CachingScorer`.

    Args:
        scorer: Computes the outcomes.
        cache: Keeps the outcomes.
    """

    def __init__(self, scorer: PlanScorer, cache: CachingScorer) -> None:
        self.scorer, self.cache = scorer, cache

    @property
    def tool_names(self) -> tuple[str, ...]:
        """Names of the tools that plans may contain."""
        return self.scorer.tool_names

    def score(
        self, samples: Sequence[Sample], plans: Sequence[Plan], *, restored: bool = True
    ) -> list[Outcome]:
        """Returns the outcome of one plan per sample and keeps it."""
        outcomes = self.scorer.score(samples, plans, restored=restored)
        self.cache.add(samples, plans, outcomes)
        return outcomes


class RememberingScorer:
    """A scorer that scores each plan on an image once, however often it is asked.

    A search that runs again with a smaller budget asks for the plans that it has asked for before.

    Args:
        scorer: Scores the plans that have no outcome yet.

    Attributes:
        seconds_reused: Seconds that the outcomes took which were returned again. Each has an equal share
            of the call that it was made by.
    """

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self._outcomes: dict[tuple[str, Plan], tuple[Outcome, float]] = {}
        self.seconds_reused = 0.0

    @property
    def tool_names(self) -> tuple[str, ...]:
        """Names of the tools that plans may contain."""
        return self._scorer.tool_names

    def score(
        self, samples: Sequence[Sample], plans: Sequence[Plan], *, restored: bool = True
    ) -> list[Outcome]:
        """Returns the outcome of one plan per sample; known ones are reused if they have what is needed."""
        keys = [(sample.key, plan) for sample, plan in zip(samples, plans, strict=True)]
        new: list[int] = []
        for number, key in enumerate(keys):
            outcome, seconds = self._outcomes.get(key, (None, 0.0))
            if outcome is None or (restored and outcome.restored is None):
                new.append(number)
            else:
                self.seconds_reused += seconds
        if new:
            start = time.perf_counter()
            chosen = [samples[number] for number in new], [plans[number] for number in new]
            outcomes = self._scorer.score(*chosen, restored=restored)
            seconds = (time.perf_counter() - start) / len(new)
            self._outcomes |= {
                keys[number]: (outcome, seconds) for number, outcome in zip(new, outcomes, strict=True)
            }
        return [self._outcomes[key][0] for key in keys]


class RestoringScorer:
    """A scorer for closed-loop agents, which observe the results of their tools and no scores.

    Args:
        scorer: Runs the tools. Its metrics are not computed.
    """

    def __init__(self, scorer: PlanScorer) -> None:
        self.scorer = scorer

    @property
    def tool_names(self) -> tuple[str, ...]:
        """Names of the tools that plans may contain."""
        return self.scorer.tool_names

    def score(
        self, samples: Sequence[Sample], plans: Sequence[Plan], *, restored: bool = True
    ) -> list[Outcome]:
        """Returns outcomes with the restored images, and without metrics."""
        return self.scorer.restore(samples, plans)
