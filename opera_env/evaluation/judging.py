"""Judges plans one at a time, so that a result depends on nothing but its sample, plan and toolbox."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from opera_env.errors import RewardError
from opera_env.evaluation.protocols import ColumnMetrics
from opera_env.metrics import Metric, build_metric
from opera_env.reward import Reward, RewardTerm, get_reward
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import Plan, Sample


@dataclass(frozen=True)
class Judgement:
    """What a plan is worth on a sample.

    Attributes:
        metrics: Metric values by name: those of both rewards and of all columns that can be computed.
        missing: Why the other columns cannot be computed, by the name of the metric.
        r_q: R_q by the reward that judges.
        r_q_seen: R_q by the reward that agents and searches see.
    """

    metrics: Mapping[str, float]
    missing: Mapping[str, str]
    r_q: float
    r_q_seen: float


class Judge:
    """Scores plans by one reward and reports another, with the columns of all protocols.

    Each plan runs and is scored alone: batches change results by rounding errors, which a rounded pixel
    makes visible (decision 5). Results are therefore the same in every order, on any number of workers, and
    for every size of batches that agents use.

    Args:
        toolbox: The tools.
        judge: The reward by which results are judged.
        seen: The reward that agents and searches see.
        columns: The metrics of the tables, shared by the judges of several toolboxes.

    Raises:
        MissingWeightsError: If a metric of a reward needs a weight file that is absent.
        RewardError: If the rewards have different metrics of one name.
    """

    def __init__(
        self, toolbox: Toolbox, judge: str | Reward, seen: str | Reward, columns: ColumnMetrics
    ) -> None:
        self._toolbox, self._columns = toolbox, columns
        self._judge, self._seen = get_reward(judge), get_reward(seen)
        self._metrics: dict[str, Metric] = {}
        for term in (*self._judge.terms, *self._seen.terms):
            metric = term.metric
            if isinstance(metric, str):
                metric = self._metrics.get(metric) or columns.metrics.get(metric) or build_metric(metric)
            if self._metrics.setdefault(term.name, metric) is not metric:
                raise RewardError(
                    f"the rewards {self._judge.name!r} and {self._seen.name!r} have two metrics called "
                    f"{term.name!r}: rename one of them."
                )
        self._scorers: dict[tuple[str, ...], PlanScorer] = {}
        self._key = ""
        self._judgements: dict[Plan, Judgement] = {}

    def score(self, sample: Sample, plan: Plan) -> Judgement:
        """Runs and judges a plan; equal plans on the sample of the last call run once.

        Raises:
            MetricError: If a reward needs a reference and the sample has none.
            ToolFailedError: If a tool fails.
        """
        if sample.key != self._key:
            self._key, self._judgements = sample.key, {}
            for scorer in self._scorers.values():
                scorer.clear_caches()
        if plan not in self._judgements:
            missing = self._columns.missing(sample)
            (outcome,) = self._scorer(missing).score([sample], [plan], restored=False)
            seen = self._seen.contributions(outcome.metrics, plan)
            missing = {name: reason for name, reason in missing.items() if name not in outcome.metrics}
            self._judgements[plan] = Judgement(
                dict(outcome.metrics), missing, outcome.r_q, float(sum(seen.values()))
            )
        return self._judgements[plan]

    def _scorer(self, missing: Mapping[str, str]) -> PlanScorer:
        """Returns the scorer for the columns that can be computed; they have no weight in its reward."""
        columns = {name: metric for name, metric in self._columns.metrics.items() if name not in missing}
        metrics = columns | self._metrics
        names = tuple(metrics)
        if names not in self._scorers:
            judged = {term.name for term in self._judge.terms}
            terms = (
                *(
                    RewardTerm(metrics[term.name], term.low, term.high, term.weight, term.clip)
                    for term in self._judge.terms
                ),
                *(RewardTerm(metrics[name], 0, 1, 0.0) for name in names if name not in judged),
            )
            reward = Reward(self._judge.name, terms, self._judge.score_empty_plan, self._judge.max_tools)
            self._scorers[names] = PlanScorer(self._toolbox, reward)
        return self._scorers[names]
