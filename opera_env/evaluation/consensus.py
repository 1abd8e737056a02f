"""Plans that several metrics agree on, and what they have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from opera_env.evaluation.planning_factors import matched_orders
from opera_env.types import Plan

FULL_REFERENCE_METRICS, NO_REFERENCE_METRICS = ("psnr_y", "ssim_y", "lpips"), ("niqe32", "piqe")

MetricColumns = Mapping[str, NDArray[np.float64]]
"""Values of all plans on one sample by metric, float64 (plans,) each; higher is better."""


@dataclass(frozen=True)
class ConsensusPlans:
    """What the plans that several metrics agree on have in common.

    A plan is good by a metric if it is among its best tenth on the image. A consensus plan is good by at
    least three of the five metrics, of which at least one uses the reference and at least one does not.

    Attributes:
        plans: Number of consensus plans per image.
        repeats: Fraction of the consensus plans that use a tool twice; 0 if there are none.
        unmatched: Fraction of the consensus plans that use a tool for a degradation that is not present.
        baseline_repeats: The same fraction of all plans, as a baseline.
        baseline_unmatched: The same fraction of all plans, as a baseline.
        plans_above_matched: Number of plans per image whose R_q is above the best order of matched tools.
        best_rank_unmatched: Mean over images of the best aggregated rank of a plan with an unmatched tool;
            None if there is no such plan. The aggregated rank of a plan is its mean rank by the five
            metrics, from 1, the best, to the number of plans.
        best_rank_matched: The same for plans of matched tools alone, repeats included.
        unmatched_better: Fraction of the images on which the former is lower, which is better.
        rank_repeated: Mean aggregated rank of the consensus plans that use a tool twice; None without any.
        rank_deduplicated: The same after each tool is used only where it comes first in the plan.

    Source: the paper's empirical study. Departure: the five metrics of the preset ``lite``; the fractions
        of all plans are reported as well, because without them those of the consensus plans say little.
    """

    plans: float
    repeats: float
    unmatched: float
    baseline_repeats: float
    baseline_unmatched: float
    plans_above_matched: float
    best_rank_unmatched: float | None
    best_rank_matched: float | None
    unmatched_better: float
    rank_repeated: float | None
    rank_deduplicated: float | None


def consensus_plans(
    plans: Sequence[Plan], columns: Sequence[MetricColumns], matched: Sequence[Plan]
) -> ConsensusPlans:
    """Finds the consensus plans of each sample and counts what they have in common.

    Args:
        plans: All plans.
        columns: Values of all plans, one mapping per sample, ``"r_q"`` included.
        matched: The matched tools of each sample.
    """
    repeats = np.array([len(set(plan)) < len(plan) for plan in plans])
    unmatched = np.array([[not set(plan) <= set(names) for plan in plans] for names in matched])
    agreed = np.array([_has_consensus(values) for values in columns])
    above = [
        (values["r_q"] > max(values["r_q"][plans.index(plan)] for plan in matched_orders(names))).sum()
        for values, names in zip(columns, matched, strict=True)
    ]
    count = max(1, int(agreed.sum()))
    ranks = np.array([_aggregated_ranks(values) for values in columns])
    best_unmatched = np.where(unmatched, ranks, np.inf).min(axis=1)
    best_matched = np.where(unmatched, np.inf, ranks).min(axis=1)
    index = {plan: number for number, plan in enumerate(plans)}
    deduplicated = np.array([index[tuple(dict.fromkeys(plan))] for plan in plans])
    return ConsensusPlans(
        plans=float(agreed.sum(axis=1).mean()),
        repeats=float((agreed & repeats).sum() / count),
        unmatched=float((agreed & unmatched).sum() / count),
        baseline_repeats=float(repeats.mean()),
        baseline_unmatched=float(unmatched.mean()),
        plans_above_matched=float(np.mean(above)),
        best_rank_unmatched=_finite_mean(best_unmatched),
        best_rank_matched=_finite_mean(best_matched),
        unmatched_better=float((best_unmatched < best_matched).mean()),
        rank_repeated=_finite_mean(ranks[agreed & repeats]),
        rank_deduplicated=_finite_mean(ranks[:, deduplicated][agreed & repeats]),
    )


def _aggregated_ranks(columns: MetricColumns) -> NDArray[np.float64]:
    """Returns the mean rank of each plan by the five metrics; 1 is best, equal plans share a rank."""
    names = (*FULL_REFERENCE_METRICS, *NO_REFERENCE_METRICS)
    return np.mean([rankdata(-columns[name]) for name in names], axis=0)


def _finite_mean(values: NDArray[np.float64]) -> float | None:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else None


def _has_consensus(columns: MetricColumns) -> NDArray[np.bool_]:
    """Marks the plans that are good by three metrics, with and without reference among them."""
    good = {
        name: columns[name] >= np.quantile(columns[name], 0.9)
        for name in (*FULL_REFERENCE_METRICS, *NO_REFERENCE_METRICS)
    }
    with_reference = np.sum([good[name] for name in FULL_REFERENCE_METRICS], axis=0)
    without_reference = np.sum([good[name] for name in NO_REFERENCE_METRICS], axis=0)
    return (with_reference + without_reference >= 3) & (with_reference > 0) & (without_reference > 0)
