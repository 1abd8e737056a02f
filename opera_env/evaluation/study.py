"""A study of all plans of a few tools: how much order, repetition and unmatched tools can gain."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opera_env.cluster import Cluster, map_on_cluster
from opera_env.degradations import Recipe
from opera_env.errors import SampleError, SettingError, ToolboxError
from opera_env.evaluation.consensus import (
    FULL_REFERENCE_METRICS,
    NO_REFERENCE_METRICS,
    ConsensusPlans,
    consensus_plans,
)
from opera_env.evaluation.partial import PartialResults
from opera_env.evaluation.planning_factors import (
    CONSTANT_PLAN,
    PLANNING_FACTORS,
    PlanScores,
    matched_orders,
)
from opera_env.evaluation.stats import ConfidenceInterval, bootstrap_interval
from opera_env.reward import Reward, get_reward
from opera_env.scoring import PlanScorer
from opera_env.search import all_plans
from opera_env.tools import Toolbox
from opera_env.types import Outcome, Plan, Sample

STUDY_METRICS = ("r_q", *FULL_REFERENCE_METRICS, *NO_REFERENCE_METRICS)
"""The metrics by which plans are chosen and effects are measured. The effect is positive where the metric
improves, also by a metric of which less is better."""

MAX_PLANS = 200_000
"""Maximum number of plans; so many take an hour for a few samples."""

_EFFECT_TOLERANCE = 1e-5
"""Effects up to this size are rounding errors."""


@dataclass(frozen=True)
class Effect:
    """The effect of a planning factor by one metric.

    Attributes:
        factor: Name of the factor, in :data:`PLANNING_FACTORS`, or :data:`CONSTANT_PLAN`.
        metric: The metric by which plans were chosen and compared, one of :data:`STUDY_METRICS`.
        mean: Mean over the samples, with its 95 % interval over source images.
        median: Median over the samples.
        fraction: Fraction of the samples on which the effect is positive.
    """

    factor: str
    metric: str
    mean: ConfidenceInterval
    median: float
    fraction: float


@dataclass(frozen=True)
class StudyResult:
    """The result of a study; :meth:`to_json` is what ``opera-env study --json`` writes.

    Attributes:
        tools: Names of the tools that take part.
        max_length: Number of tools of the longest plan.
        plans: Number of plans.
        samples: Number of samples.
        effects: The effect of each planning factor by each metric.
        consensus: What the plans that several metrics agree on have in common.
    """

    tools: tuple[str, ...]
    max_length: int
    plans: int
    samples: int
    effects: tuple[Effect, ...]
    consensus: ConsensusPlans

    def to_json(self) -> dict[str, Any]:
        """Returns a dictionary of JSON types."""
        return asdict(self)


def matched_tools(toolbox: Toolbox, samples: Sequence[Sample]) -> dict[str, str]:
    """Returns, for each degradation that occurs, the first tool of the toolbox that is for it.

    Raises:
        ToolboxError: If the toolbox has none for one of them.
    """
    tool_of: dict[str, str] = {}
    for degradation in sorted({name for sample in samples for name in sample.degradations or ()}):
        suitable = [tool.name for tool in toolbox if degradation in tool.degradations]
        if not suitable:
            raise ToolboxError(
                f"none of {', '.join(toolbox.names)} is for {degradation}: add a tool for it."
            )
        tool_of[degradation] = suitable[0]
    return tool_of


def run_study(
    toolbox: Toolbox,
    samples: Sequence[Sample],
    max_length: int = 4,
    reward: str | Reward = "lite",
    progress: Callable[[int, int], None] = lambda done, total: None,
    partial: PartialResults | None = None,
    cluster: Cluster | None = None,
) -> StudyResult:
    """Runs every plan of one tool for each degradation, repetitions included, on every sample.

    Args:
        toolbox: The tools; of those for one degradation, the first takes part.
        samples: Samples with known degradations; each recipe on at least two source images.
        max_length: Number of tools of the longest plan; at least the number of degradations of a sample.
        reward: The reward that R_q comes from, as :func:`opera_env.reward.get_reward` takes it. The metrics
            of ``lite`` are measured in any case.
        progress: Called with the number of samples done and the number of samples in all.
        partial: Keeps the scores of each sample. Those that it has already, from an interrupted study, are
            taken from it.
        cluster: Scores the samples on a cluster; None scores them in this process.

    Raises:
        SettingError: If there are more than :data:`MAX_PLANS` plans.
        SampleError: If plans are shorter than a recipe, or a recipe has one source image only.
        ToolboxError: If the toolbox has no tool for a degradation.
    """
    _validate_samples(samples, max_length)
    tool_of = matched_tools(toolbox, samples)
    tool_names = tuple(name for name in toolbox.names if name in tool_of.values())
    _check_number_of_plans(len(tool_names), max_length)
    plans = all_plans(tool_names, max_length)
    matched = [
        tuple(dict.fromkeys(tool_of[name] for name in sorted(sample.degradations or ())))
        for sample in samples
    ]
    make = functools.partial(_make_scorer, toolbox.subset(tool_names), get_reward(reward), samples, plans)
    columns = _score_samples(make, len(samples), progress, partial, cluster)
    images = [sample.spec.source_image for sample in samples]
    effects: list[Effect] = []
    for metric in STUDY_METRICS:
        scores = [dict(zip(plans, values[metric], strict=True)) for values in columns]
        gains = {
            name: [factor(by_plan, tools) for by_plan, tools in zip(scores, matched, strict=True)]
            for name, factor in PLANNING_FACTORS.items()
        }
        gains[CONSTANT_PLAN] = _constant_plan_effect(samples, scores, matched)
        effects += [_effect(name, metric, values, images) for name, values in gains.items()]
    consensus = consensus_plans(plans, columns, matched)
    return StudyResult(tool_names, max_length, len(plans), len(samples), tuple(effects), consensus)


def _score_samples(
    make: Callable[[], Callable[[int], dict[str, list[float]]]],
    count: int,
    progress: Callable[[int, int], None],
    partial: PartialResults | None,
    cluster: Cluster | None,
) -> list[dict[str, NDArray[np.float64]]]:
    """Returns the values of all plans on each sample by metric; those that are kept are not computed again.

    Args:
        make: Returns the function that scores a sample by its index.
        count: Number of samples.
        progress: Called with the number of samples done and in all.
        partial: Keeps the values of each sample.
        cluster: Where they are computed; None for this process.
    """
    found: dict[int, dict[str, list[float]]] = {}
    for index in range(count):
        if partial is not None and (kept := partial.get(f"sample {index}")) is not None:
            found[index] = kept
    missing = [index for index in range(count) if index not in found]
    if found:
        progress(len(found), count)
    if cluster is None:
        score = make() if missing else None
        scored = ((index, score(index)) for index in missing if score is not None)
    else:
        scored = map_on_cluster(cluster, make, missing)
    for index, values in scored:
        found[index] = values
        if partial is not None:
            partial.save(f"sample {index}", values)
        progress(len(found), count)
    return [{name: np.array(values) for name, values in found[index].items()} for index in range(count)]


def _make_scorer(
    toolbox: Toolbox, reward: Reward, samples: Sequence[Sample], plans: Sequence[Plan]
) -> Callable[[int], dict[str, list[float]]]:
    """Returns the function that scores all plans on a sample, which is given by its index."""
    scorer = PlanScorer(toolbox, _with_study_metrics(reward))
    lower_is_better = {metric.name for metric in scorer.metrics.metrics if not metric.higher_is_better}

    def score(index: int) -> dict[str, list[float]]:
        outcomes = scorer.score([samples[index]] * len(plans), plans, restored=False)
        return {
            name: values.tolist() for name, values in _metric_columns(outcomes, lower_is_better).items()
        }

    return score


def _with_study_metrics(reward: Reward) -> Reward:
    """Returns the reward with the metrics of ``lite`` that it lacks, which contribute nothing to R_q."""
    names = {term.name for term in reward.terms}
    missing = [replace(term, weight=0) for term in get_reward("lite").terms if term.name not in names]
    return replace(reward, terms=(*reward.terms, *missing))


def _check_number_of_plans(num_tools: int, max_length: int) -> None:
    count, longest = 1, 0
    while longest < max_length and count + num_tools ** (longest + 1) <= MAX_PLANS:
        longest += 1
        count += num_tools**longest
    if longest < max_length:
        raise SettingError(
            "max_length",
            max_length,
            f"at most {longest}, because longer ones of {num_tools} tools are over {MAX_PLANS} plans",
        )


def _validate_samples(samples: Sequence[Sample], max_length: int) -> None:
    """Raises an error for samples that cannot be studied, before any plan is run."""
    longest = max((len(sample.degradations or ()) for sample in samples), default=0)
    if not longest:
        raise SampleError(
            "a study needs samples whose degradations are known, found none: use a source with labels."
        )
    if max_length < longest:
        raise SampleError(
            f"expected a max_length of at least {longest}, because samples have up to {longest} "
            f"degradations, found {max_length}."
        )
    images: dict[Recipe, set[tuple[str, str | int]]] = {}
    for sample in samples:
        images.setdefault(sample.spec.recipe, set()).add(sample.spec.source_image)
    for recipe, source_images in images.items():
        if len(source_images) < 2:
            raise SampleError(
                f"a study needs each recipe on at least two photographs; {' + '.join(recipe)} is on one: "
                "take more samples or more photographs."
            )


def _metric_columns(
    outcomes: Sequence[Outcome], lower_is_better: set[str]
) -> dict[str, NDArray[np.float64]]:
    """Returns R_q and all metrics, one value for each plan, signed so that higher is better."""
    columns = {"r_q": np.array([outcome.r_q for outcome in outcomes])}
    for name in outcomes[0].metrics:
        values = np.array([outcome.metrics[name] for outcome in outcomes])
        columns[name] = -values if name in lower_is_better else values
    return columns


def _effect(
    name: str, metric: str, gains: Sequence[float], images: Sequence[tuple[str, str | int]]
) -> Effect:
    fraction = float(np.mean(np.array(gains) > _EFFECT_TOLERANCE))
    return Effect(name, metric, bootstrap_interval(gains, images), float(np.median(gains)), fraction)


def _constant_plan_effect(
    samples: Sequence[Sample], scores: Sequence[PlanScores], matched: Sequence[Plan]
) -> list[float]:
    """Returns the gain of the best constant plan over the best constant matched order, for each sample.

    Both are chosen on the other source images of the recipe.
    """
    gains: list[float] = []
    for index, sample in enumerate(samples):
        others = [
            scores[other]
            for other, candidate in enumerate(samples)
            if candidate.spec.recipe == sample.spec.recipe
            and candidate.spec.source_image != sample.spec.source_image
        ]
        mean = {plan: float(np.mean([by_plan[plan] for by_plan in others])) for plan in scores[index]}
        best_plan = max(mean, key=mean.__getitem__)
        best_matched = max(matched_orders(matched[index]), key=mean.__getitem__)
        gains.append(scores[index][best_plan] - scores[index][best_matched])
    return gains
