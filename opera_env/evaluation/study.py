"""How far a world rewards planning: what order, repeats and foreign tools are worth in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opera_env.degradations import Recipe
from opera_env.errors import SampleError, ToolboxError
from opera_env.evaluation.stats import ConfidenceInterval, bootstrap_interval
from opera_env.scoring import PlanScorer
from opera_env.search import all_plans
from opera_env.tools import Toolbox
from opera_env.types import Outcome, Plan, Sample

PlanScores = Mapping[Plan, float]
"""What every plan scores on one sample, higher is better."""

PlanningFactor = Callable[[PlanScores, Sequence[str]], float]
"""Scores of all plans and the matched tools, one for each degradation, to a difference."""


def matched_orders(matched: Sequence[str]) -> list[Plan]:
    """Lists the plans that use each matched tool once.

    Example:
        >>> matched_orders(["a", "b"])
        [('a', 'b'), ('b', 'a')]
    """
    return list(permutations(matched))


def _best(scores: PlanScores, plans: Iterable[Plan]) -> float:
    return max(scores[plan] for plan in plans)


def _order(scores: PlanScores, matched: Sequence[str]) -> float:
    orders = [scores[plan] for plan in matched_orders(matched)]
    return max(orders) - min(orders)


def _random_order_effect(scores: PlanScores, matched: Sequence[str]) -> float:
    orders = [scores[plan] for plan in matched_orders(matched)]
    return max(orders) - float(np.mean(orders))


def _omission_effect(scores: PlanScores, matched: Sequence[str]) -> float:
    subsets = [plan for size in range(len(matched) + 1) for plan in permutations(matched, size)]
    return _best(scores, subsets) - _best(scores, matched_orders(matched))


def _repetition_effect(scores: PlanScores, matched: Sequence[str]) -> float:
    allowed = [plan for plan in scores if set(plan) <= set(matched)]
    once = [plan for plan in allowed if len(set(plan)) == len(plan)]
    return _best(scores, allowed) - _best(scores, once)


def _unmatched_effect(scores: PlanScores, matched: Sequence[str]) -> float:
    once = [plan for plan in scores if len(set(plan)) == len(plan)]
    return _best(scores, once) - _best(scores, [plan for plan in once if set(plan) <= set(matched)])


def _any_plan_effect(scores: PlanScores, matched: Sequence[str]) -> float:
    return _best(scores, scores) - _best(scores, matched_orders(matched))


PLANNING_FACTORS: Mapping[str, PlanningFactor] = {
    "matched tools, best order less worst": _order,
    "matched tools, best order less a random one": _random_order_effect,
    "leaving matched tools out": _omission_effect,
    "repeating matched tools": _repetition_effect,
    "tools beyond the matched": _unmatched_effect,
    "any plan less the best matched order": _any_plan_effect,
}
"""What a planner may do, and what the best use of it earns on an image (winner's curse included)."""

CONSTANT_PLAN = "one plan for all images of a recipe, chosen on the others"
"""Any constant plan less a constant order of the matched tools: without the winner's curse."""

REFERENCE, NO_REFERENCE = ("psnr_y", "ssim_y", "lpips"), ("niqe32", "piqe")
LOWER_IS_BETTER = frozenset({"lpips", "niqe32", "piqe"})


@dataclass(frozen=True)
class Effect:
    """What a freedom is worth by one metric.

    Attributes:
        freedom: Which one.
        metric: By which metric plans were chosen and compared: "r_q", "psnr_y" or "ssim_y".
        mean: Over samples, with its 95 % interval over photographs.
        median: Over samples.
        share: Of samples on which it is worth anything.
    """

    freedom: str
    metric: str
    mean: ConfidenceInterval
    median: float
    share: float


@dataclass(frozen=True)
class ConsensusPlans:
    """What the plans have in common that several metrics agree on.

    A plan is good by a metric if it is among its best tenth on the image; it wins if three of the
    five metrics call it good, one with and one without reference among them.

    Attributes:
        plans: Winners per image.
        repeats: Share of the winners that use a tool twice; 0 if there are none.
        foreign: Share of the winners that use a tool for a degradation that is not there.
        baseline_repeats: The same share of all plans: what counting alone gives.
        baseline_unmatched: Likewise.
        plans_above_matched: Plans per image whose R_q is above the best order of the matched tools.

    Source: the paper's empirical study. Departure: lite's five metrics; the shares of all plans
        stand beside, without which those of the winners say little.
    """

    plans: float
    repeats: float
    unmatched: float
    baseline_repeats: float
    baseline_unmatched: float
    plans_above_matched: float


@dataclass(frozen=True)
class StudyResult:
    """The result of a study; :meth:`to_json` is what ``opera-env study --json`` writes."""

    tools: tuple[str, ...]
    max_length: int
    plans: int
    samples: int
    effects: tuple[Effect, ...]
    winners: ConsensusPlans

    def to_json(self) -> dict[str, Any]:
        """Returns a dictionary of JSON types."""
        return asdict(self)


def matched_tools(toolbox: Toolbox, samples: Sequence[Sample]) -> dict[str, str]:
    """Returns for each degradation that occurs the first tool of the toolbox that is for it.

    Raises:
        ToolboxError: If the toolbox has none for one of them.
    """
    first: dict[str, str] = {}
    for kind in sorted({kind for sample in samples for kind in sample.degradations or ()}):
        suitable = [tool.name for tool in toolbox if kind in tool.degradations]
        if not suitable:
            raise ToolboxError(
                f"none of {', '.join(toolbox.names)} is for {kind}: a study needs a tool for it."
            )
        first[kind] = suitable[0]
    return first


def _check(samples: Sequence[Sample], max_length: int) -> None:
    """Refuses what cannot be studied, before the long wait."""
    longest = max((len(sample.degradations or ()) for sample in samples), default=0)
    if not longest:
        raise SampleError("a study needs samples whose degradations are known, found none.")
    if max_length < longest:
        raise SampleError(
            f"samples have up to {longest} degradations: plans need as many tools, not {max_length}."
        )
    photographs: dict[Recipe, set[tuple[str, int]]] = {}
    for sample in samples:
        photographs.setdefault(sample.spec.recipe, set()).add(sample.spec.source_image)
    for recipe, found in photographs.items():
        if len(found) < 2:
            raise SampleError(
                f"a study needs each recipe on at least two photographs; {' + '.join(recipe)} is on one: "
                "take more samples or more photographs."
            )


def run_study(
    toolbox: Toolbox,
    samples: Sequence[Sample],
    max_length: int = 4,
    reward: str = "lite",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> StudyResult:
    """Runs every plan of one tool a degradation, repeats included, on every sample.

    Args:
        toolbox: The tools; of those for one degradation, the first takes part.
        samples: Whose degradations are known, each at least once in several photographs.
        max_length: Longest plan; at least as long as a sample has degradations.
        reward: What R_q is; its metrics must be those of ``lite``.
        progress: Called with samples done and samples in all.

    Raises:
        SampleError: If plans are shorter than a recipe, or a recipe has one photograph only.
    """
    _check(samples, max_length)
    first = matched_tools(toolbox, samples)
    tools = tuple(name for name in toolbox.names if name in first.values())
    plans = all_plans(tools, max_length)
    scorer = PlanScorer(toolbox.subset(tools), reward)
    matched = [
        tuple(dict.fromkeys(first[kind] for kind in sorted(sample.degradations or ())))
        for sample in samples
    ]
    tables: list[dict[str, NDArray[np.float64]]] = []
    for done, sample in enumerate(samples):
        tables.append(_table(scorer.score([sample] * len(plans), plans, restored=False)))
        progress(done + 1, len(samples))
    photographs = [sample.spec.source_image for sample in samples]
    effects: list[Effect] = []
    for metric in ("r_q", "psnr_y", "ssim_y"):
        scores = [dict(zip(plans, table[metric], strict=True)) for table in tables]
        found = {
            name: [freedom(*pair) for pair in zip(scores, matched, strict=True)]
            for name, freedom in PLANNING_FACTORS.items()
        }
        found[CONSTANT_PLAN] = _constant_plan_effect(samples, scores, matched)
        effects += [_effect(name, metric, values, photographs) for name, values in found.items()]
    winners = _consensus_plans(plans, tables, matched)
    return StudyResult(tools, max_length, len(plans), len(samples), tuple(effects), winners)


def _table(outcomes: Sequence[Outcome]) -> dict[str, NDArray[np.float64]]:
    """Returns columns, a row a plan, all of them higher is better."""
    columns = {
        name: np.array([outcome.metrics[name] for outcome in outcomes]) for name in outcomes[0].metrics
    }
    columns = {name: -column if name in LOWER_IS_BETTER else column for name, column in columns.items()}
    return {"r_q": np.array([outcome.r_q for outcome in outcomes]), **columns}


def _effect(
    name: str, metric: str, values: Sequence[float], photographs: Sequence[tuple[str, int]]
) -> Effect:
    share = float(np.mean(np.array(values) > 1e-5))
    return Effect(name, metric, bootstrap_interval(values, photographs), float(np.median(values)), share)


def _constant_plan_effect(
    samples: Sequence[Sample], scores: Sequence[PlanScores], matched: Sequence[Plan]
) -> list[float]:
    """The best constant plan less the best constant matched order, chosen on a recipe's other images."""
    differences: list[float] = []
    for index, sample in enumerate(samples):
        others = [
            scores[other]
            for other, candidate in enumerate(samples)
            if candidate.spec.recipe == sample.spec.recipe
            and candidate.spec.source_image != sample.spec.source_image
        ]
        mean = {plan: float(np.mean([one[plan] for one in others])) for plan in scores[index]}
        free = max(mean, key=mean.__getitem__)
        bound = max(matched_orders(matched[index]), key=mean.__getitem__)
        differences.append(scores[index][free] - scores[index][bound])
    return differences


def _consensus_plans(
    plans: Sequence[Plan], tables: Sequence[Mapping[str, NDArray[np.float64]]], matched: Sequence[Plan]
) -> ConsensusPlans:
    repeats = np.array([len(set(plan)) < len(plan) for plan in plans])
    unmatched = np.array([[not set(plan) <= set(names) for plan in plans] for names in matched])
    wins = np.array([_has_consensus(table) for table in tables])
    beat = [
        (table["r_q"] > max(table["r_q"][plans.index(plan)] for plan in matched_orders(names))).sum()
        for table, names in zip(tables, matched, strict=True)
    ]
    count = max(1, int(wins.sum()))
    return ConsensusPlans(
        plans=float(wins.sum(axis=1).mean()),
        repeats=float((wins & repeats).sum() / count),
        unmatched=float((wins & unmatched).sum() / count),
        baseline_repeats=float(repeats.mean()),
        baseline_unmatched=float(unmatched.mean()),
        plans_above_matched=float(np.mean(beat)),
    )


def _has_consensus(table: Mapping[str, NDArray[np.float64]]) -> NDArray[np.bool_]:
    """Which plans are good by three metrics, with and without reference."""
    good = {name: table[name] >= np.quantile(table[name], 0.9) for name in (*REFERENCE, *NO_REFERENCE)}
    with_reference = np.sum([good[name] for name in REFERENCE], axis=0)
    without = np.sum([good[name] for name in NO_REFERENCE], axis=0)
    return (with_reference + without >= 3) & (with_reference > 0) & (without > 0)
