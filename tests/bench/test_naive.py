"""The naive implementation returns the same metrics as the scorer."""

from __future__ import annotations

import pytest

from opera_env.bench.config import STUDY_TOOLS
from opera_env.bench.context import BenchmarkContext
from opera_env.bench.naive import pyiqa_metrics, score_naively
from opera_env.scoring import PlanScorer
from opera_env.search import all_plans


@pytest.mark.slow
@pytest.mark.needs_weights("lpips")
def test_naive_metrics_equal_those_of_the_scorer(bench: BenchmarkContext) -> None:
    """The fast metrics equal pyiqa's, and shared, batched plans equal plans run from their beginning."""
    compute_metrics = pyiqa_metrics(bench.device)
    pairs = [(sample, plan) for sample in bench.samples for plan in all_plans(STUDY_TOOLS, 2)[::3]]
    outcomes = PlanScorer(bench.toolbox).score([sample for sample, _ in pairs], [plan for _, plan in pairs])
    for (sample, plan), outcome in zip(pairs, outcomes, strict=True):
        naive = score_naively(bench.toolbox, sample, plan, compute_metrics)
        assert outcome.metrics["psnr_y"] == pytest.approx(naive["psnr_y"], abs=2e-3)
        assert outcome.metrics["ssim_y"] == pytest.approx(naive["ssim_y"], abs=1e-4)
        assert outcome.metrics["lpips"] == pytest.approx(naive["lpips"], abs=2e-4)
        assert outcome.metrics["niqe32"] == pytest.approx(naive["niqe32"], rel=0.05)
        assert outcome.metrics["piqe"] == pytest.approx(naive["piqe"], abs=1.5), "one block at a threshold"
