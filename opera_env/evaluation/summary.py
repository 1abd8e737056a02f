"""The numbers of tables of results: means with intervals, by group and combination, differences, costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from opera_env.evaluation.best_plans import BestPlans
from opera_env.evaluation.protocols import PROTOCOLS, Column
from opera_env.evaluation.results import (
    SINGLE_PREFIX,
    TOKEN_KEYS,
    Entry,
    Result,
    by_entry,
    check_comparable,
    spec_digest,
)
from opera_env.evaluation.stats import ClusterBootstrap, ConfidenceInterval, interquartile_mean, mean_over

R_Q = "r_q"
NORMALISED, REGRET = "normalised", "regret"
GAIN, GAIN_SEEN, GAP = "gain", "gain_seen", "gap"
OVERALL = "all"
"""The scope of all samples; other scopes are the names of groups and combinations."""

EACH_TOOL_LABEL = "mean over tools"
"""The agent that stands for the mean over all agents that plan one tool."""

Means = dict[str, dict[str, ConfidenceInterval]]
"""Means with their intervals, by scope and by the name of the value."""


@dataclass(frozen=True)
class EntrySummary:
    """A toolbox and an agent on a benchmark.

    Attributes:
        toolbox: Name of the toolbox.
        agent: Name of the agent.
        reward: Name of the reward that it saw.
        budget: Number of tools that it was allowed to run before it decided; None for no limit.
        fingerprint: Fingerprint of the toolbox.
        samples: Number of samples.
        means: Means of the metrics, R_q, the normalised score, the regret, the gains by the judge and by
            the reward, and the gap. A group is the unweighted mean of its combinations.
        interquartile: Inter-quartile means over all samples, of R_q and the normalised score.
        differences: Mean paired difference to the first entry, by the name of the value; empty for the
            first entry, and for one of other samples.
        tools: Mean number of tools in a plan.
        images_scored: Mean number of results that were scored for a decision.
        tools_run: Mean number of tool applications before a decision.
        seconds: Mean duration of a decision.
        errors: Number of answers that could not be parsed.
        prompt_tokens: Mean number of tokens that a language model has read for a decision; None if unknown.
        completion_tokens: The same of those that it has written.
    """

    toolbox: str
    agent: str
    reward: str
    budget: int | None
    fingerprint: str
    samples: int
    means: Means
    interquartile: dict[str, ConfidenceInterval]
    differences: dict[str, ConfidenceInterval]
    tools: float
    images_scored: float
    tools_run: float
    seconds: float
    errors: int
    prompt_tokens: float | None = None
    completion_tokens: float | None = None

    @property
    def key(self) -> Entry:
        """What tells the entry from others."""
        return self.toolbox, self.agent, self.reward, self.budget


@dataclass(frozen=True)
class Summary:
    """All entries of a table on one benchmark.

    Attributes:
        benchmark: Name of the benchmark.
        protocol: Name of the protocol.
        judge: Name of the reward that judged.
        columns: The columns of the protocol that at least one entry has.
        missing: Why a column of the protocol is empty for some or all entries, by its title.
        groups: Names of the groups.
        combinations: Names of the combinations.
        normalised: Number of samples that have a normalised score; 0 without best known plans.
        entries: The entries; the first is the one that others are compared with.
    """

    benchmark: str
    protocol: str
    judge: str
    columns: tuple[Column, ...]
    missing: dict[str, str]
    groups: tuple[str, ...]
    combinations: tuple[str, ...]
    normalised: int
    entries: tuple[EntrySummary, ...]

    @property
    def has_gap(self) -> bool:
        """Whether an agent saw another reward than the one that judges."""
        return any(entry.reward != self.judge for entry in self.entries)


def summarise_results(
    results: Sequence[Result],
    protocol: str = "opera",
    best: BestPlans | None = None,
    seed: int = 0,
) -> Summary:
    """Summarises results of one benchmark.

    Args:
        results: The results.
        protocol: A key of :data:`opera_env.evaluation.protocols.PROTOCOLS`.
        best: The best known plans, for the normalised score.
        seed: Seed of the bootstrap.

    Raises:
        ResultsError: If the results cannot stand in one table, or the best known plans do not suit them.
    """
    check_comparable(results)
    values = _Values(PROTOCOLS[protocol], best)
    entries = by_entry(results)
    first = next(iter(entries.values()))
    summaries = [values.summarise(rows, first, seed) for rows in entries.values()]
    summaries += _means_over_tools(summaries)
    columns = tuple(
        column
        for column in PROTOCOLS[protocol]
        if any(column.metric in entry.means[OVERALL] for entry in summaries)
    )
    return Summary(
        benchmark=first[0].benchmark,
        protocol=protocol,
        judge=first[0].judge,
        columns=columns,
        missing=_missing(results, PROTOCOLS[protocol]),
        groups=tuple(sorted({row.group for row in results if row.group})),
        combinations=tuple(dict.fromkeys(row.combination for row in results)),
        normalised=0 if best is None else sum(best.normalise(row) is not None for row in first),
        entries=tuple(summaries),
    )


class _Values:
    """The values of results that are summarised, by name."""

    def __init__(self, columns: Sequence[Column], best: BestPlans | None) -> None:
        self._columns, self._best = columns, best
        self._bootstraps: dict[tuple[tuple[str, str | int], ...], ClusterBootstrap] = {}

    def _bootstrap(self, images: Sequence[tuple[str, str | int]], seed: int) -> ClusterBootstrap:
        """Returns the draws for these images, which entries on the same samples share."""
        key = tuple(images)
        if key not in self._bootstraps:
            self._bootstraps[key] = ClusterBootstrap(images, seed)
        return self._bootstraps[key]

    def of(self, rows: Sequence[Result]) -> dict[str, list[float]]:
        """Returns the values of results; a metric that one of them lacks is left out."""
        values = {
            column.metric: [row.metrics[column.metric] for row in rows]
            for column in self._columns
            if all(column.metric in row.metrics for row in rows)
        }
        values[R_Q] = [row.r_q for row in rows]
        values[GAIN] = [row.gain for row in rows]
        values[GAIN_SEEN] = [row.r_q_seen - row.input_r_q_seen for row in rows]
        values[GAP] = [row.gap for row in rows]
        if self._best is not None:
            scores = [self._best.normalise(row) for row in rows]
            values[NORMALISED] = [np.nan if score is None else score for score in scores]
            values[REGRET] = [self._best.regret(row) for row in rows]
        return values

    def summarise(self, rows: Sequence[Result], first: Sequence[Result], seed: int) -> EntrySummary:
        """Summarises an entry, and compares it with the first one."""
        values = self.of(rows)
        images = [row.spec.source_image for row in rows]
        overall = self._bootstrap(images, seed)
        strata = [row.combination for row in rows]
        means: Means = {
            OVERALL: {name: overall.interval(each, mean_over(strata)) for name, each in values.items()}
        }
        for scope in dict.fromkeys([*(row.group for row in rows if row.group), *strata]):
            chosen = [place for place, row in enumerate(rows) if scope in (row.group, row.combination)]
            bootstrap = self._bootstrap([images[place] for place in chosen], seed)
            statistic = mean_over([strata[place] for place in chosen])
            means[scope] = {
                name: bootstrap.interval([each[place] for place in chosen], statistic)
                for name, each in values.items()
            }
        return EntrySummary(
            toolbox=rows[0].toolbox,
            agent=rows[0].agent,
            reward=rows[0].reward,
            budget=rows[0].budget,
            fingerprint=rows[0].fingerprint,
            samples=len(rows),
            means=means,
            interquartile={
                name: overall.interval(values[name], interquartile_mean)
                for name in (R_Q, NORMALISED)
                if name in values
            },
            differences=self._differences(values, rows, first, overall, strata),
            tools=float(np.mean([len(row.plan) for row in rows])),
            images_scored=float(np.mean([row.cost.images_scored for row in rows])),
            tools_run=float(np.mean([row.cost.tools_run for row in rows])),
            seconds=float(np.mean([row.cost.seconds for row in rows])),
            errors=sum(bool(row.answer and row.answer.get("error")) for row in rows),
            **{key: _mean_tokens(rows, key) for key in TOKEN_KEYS},
        )

    def _differences(
        self,
        values: Mapping[str, Sequence[float]],
        rows: Sequence[Result],
        first: Sequence[Result],
        bootstrap: ClusterBootstrap,
        strata: Sequence[str],
    ) -> dict[str, ConfidenceInterval]:
        """Returns the mean paired differences to the first entry, with intervals over photographs."""
        same = [spec_digest(row.spec) for row in rows] == [spec_digest(row.spec) for row in first]
        if rows is first or not same:
            return {}
        others = self.of(first)
        return {
            name: bootstrap.interval(np.subtract(values[name], others[name]).tolist(), mean_over(strata))
            for name in values
            if name in others
        }


def _mean_tokens(rows: Sequence[Result], key: str) -> float | None:
    counts = [count for row in rows if (count := (row.answer or {}).get(key)) is not None]
    return float(np.mean(counts)) if len(counts) == len(rows) else None


def _means_over_tools(entries: Sequence[EntrySummary]) -> list[EntrySummary]:
    """Returns, for each toolbox with several agents of one tool, the unweighted mean over these."""
    found: list[EntrySummary] = []
    for toolbox, budget in dict.fromkeys((entry.toolbox, entry.budget) for entry in entries):
        tools = [
            entry
            for entry in entries
            if (entry.toolbox, entry.budget) == (toolbox, budget) and entry.agent.startswith(SINGLE_PREFIX)
        ]
        if len(tools) < 2:
            continue
        names = set.intersection(*(set(entry.means[OVERALL]) for entry in tools))
        means = {
            name: ConfidenceInterval(
                float(np.mean([entry.means[OVERALL][name].mean for entry in tools])), np.nan, np.nan
            )
            for name in tools[0].means[OVERALL]
            if name in names
        }
        costs = {
            name: float(np.mean([getattr(entry, name) for entry in tools]))
            for name in ("tools", "images_scored", "tools_run", "seconds")
        }
        found.append(
            EntrySummary(
                toolbox=toolbox,
                agent=EACH_TOOL_LABEL,
                reward=tools[0].reward,
                budget=tools[0].budget,
                fingerprint=tools[0].fingerprint,
                samples=sum(entry.samples for entry in tools),
                means={OVERALL: means},
                interquartile={},
                differences={},
                errors=0,
                **costs,
            )
        )
    return found


def _missing(results: Sequence[Result], columns: Sequence[Column]) -> dict[str, str]:
    """Returns why columns are empty for some or all results, by their titles."""
    return {
        column.title: reason
        for column in columns
        for reason in dict.fromkeys(row.missing.get(column.metric) for row in results)
        if reason is not None
    }
