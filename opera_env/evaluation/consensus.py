"""Plans that several metrics agree on, and what they have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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

    Source: the paper's empirical study. Departure: the five metrics of the preset ``lite``; the fractions
        of all plans are reported as well, because without them those of the consensus plans say little.
    """

    plans: float
    repeats: float
    unmatched: float
    baseline_repeats: float
    baseline_unmatched: float
    plans_above_matched: float


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
    return ConsensusPlans(
        plans=float(agreed.sum(axis=1).mean()),
        repeats=float((agreed & repeats).sum() / count),
        unmatched=float((agreed & unmatched).sum() / count),
        baseline_repeats=float(repeats.mean()),
        baseline_unmatched=float(unmatched.mean()),
        plans_above_matched=float(np.mean(above)),
    )


def _has_consensus(columns: MetricColumns) -> NDArray[np.bool_]:
    """Marks the plans that are good by three metrics, with and without reference among them."""
    good = {
        name: columns[name] >= np.quantile(columns[name], 0.9)
        for name in (*FULL_REFERENCE_METRICS, *NO_REFERENCE_METRICS)
    }
    with_reference = np.sum([good[name] for name in FULL_REFERENCE_METRICS], axis=0)
    without_reference = np.sum([good[name] for name in NO_REFERENCE_METRICS], axis=0)
    return (with_reference + without_reference >= 3) & (with_reference > 0) & (without_reference > 0)
