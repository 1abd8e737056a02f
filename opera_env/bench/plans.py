"""Many plans: beside the naive way, beside the floor, and as their number grows."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from opera_env.bench.floor import applications, lower_bound_seconds
from opera_env.bench.naive import pyiqa_metrics, score_naively
from opera_env.bench.settings import BenchmarkContext, peak_memory
from opera_env.errors import BenchError
from opera_env.metrics import FunctionMetric
from opera_env.reward import Reward, RewardTerm
from opera_env.scoring import PlanScorer
from opera_env.search import all_plans
from opera_env.types import Plan, Sample

_ROUNDS = 3

_Pairs = Sequence[tuple[Sample, Plan]]

SERVICE_SCRIPT = Path(__file__).parents[2] / "scripts" / "http_service.py"
"""How public agents call their tools; in the repository, not in the package."""


def exhaustive(bench: BenchmarkContext) -> dict[str, float]:
    """All 340 plans of up to four of four tools on one image."""
    plans = _every_plan(bench)
    return _against_naive_and_floor(bench, [bench.samples[0]] * len(plans), plans)


def group(bench: BenchmarkContext) -> dict[str, float]:
    """Eight random plans of up to six tools on each of 32 images: a step of a group-relative learner."""
    images = bench.samples[: len(bench.samples) // 2]
    samples = [sample for sample in images for _ in range(8)]
    return _against_naive_and_floor(bench, samples, bench.random_plans(len(samples), 6))


def _every_plan(bench: BenchmarkContext) -> list[Plan]:
    return [plan for plan in all_plans(bench.toolbox.names[:4], 2 if bench.quick else 4) if plan]


def _ours(
    bench: BenchmarkContext, scorer: PlanScorer, samples: Sequence[Sample], plans: Sequence[Plan]
) -> float:
    return bench.seconds(lambda: scorer.score(samples, plans, restored=False))


def _against_naive_and_floor(
    bench: BenchmarkContext, samples: Sequence[Sample], plans: Sequence[Plan]
) -> dict[str, float]:
    """Measures the three in turn, the naive way a part a round, so that all see the same machine.

    The naive way gets all threads or one, whichever is faster: small images are not worth sharing.
    """
    judge, pairs = pyiqa_metrics(bench.device), list(zip(samples, plans, strict=True))

    def naively(pairs: _Pairs) -> float:
        return sum(bench.seconds(partial(score_naively, bench.toolbox, *pair, judge)) for pair in pairs)

    naively(pairs[:1])
    threads = min((torch.get_num_threads(), 1), key=lambda count: _with_threads(count, naively, pairs[:8]))
    PlanScorer(bench.toolbox).score(samples[:4], plans[:4])
    rounds = 1 if bench.quick else _ROUNDS
    naive, ours, floors = 0.0, [], []
    for number in range(rounds):
        bench.progress(f"ours, round {number + 1} of {rounds}")
        ours.append(_ours(bench, PlanScorer(bench.toolbox), samples, plans))
        bench.progress(f"naive, round {number + 1} of {rounds}")
        naive += _with_threads(threads, naively, pairs[number::rounds])
        floors.append(lower_bound_seconds(bench, samples, plans))
    tools, metrics = (float(np.median(column)) for column in zip(*floors, strict=True))
    return {
        "naive_s": naive,
        "naive_threads": threads,
        "ours_s": float(np.median(ours)),
        "floor_s": tools + metrics,
        "floor_tools_s": tools,
        "floor_metrics_s": metrics,
        "plans": len(plans),
        "applications": sum(applications(bench, samples, plans).values()),
    }


def _with_threads(count: int, work: Callable[[_Pairs], float], pairs: _Pairs) -> float:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        return work(pairs)
    finally:
        torch.set_num_threads(before)


def service(bench: BenchmarkContext) -> dict[str, float]:
    """The plans of :func:`exhaustive` through an HTTP service with files between the tools.

    Raises:
        BenchError: Outside the repository.
    """
    if not SERVICE_SCRIPT.is_file():
        raise BenchError("the stand-in for a service is only in the repository, run it from there.")
    plans = _every_plan(bench)
    samples = [bench.samples[0]] * len(plans)
    PlanScorer(bench.toolbox).score(samples[:4], plans[:4])
    bench.progress("service: the stand-in")
    words = [sys.executable, str(SERVICE_SCRIPT), "--toolbox", bench.pool, "--device", str(bench.device)]
    words += ["--seed", str(bench.seed), "--length", "2" if bench.quick else "4"]
    words += ["--tools", *bench.toolbox.names[:4]]
    # With OpenMP as it is by default: that our own command lets its threads sleep would not be fair.
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    printed = subprocess.run(words, check=True, capture_output=True, text=True, env=environment).stdout
    bench.progress("service: ours")
    rounds = 1 if bench.quick else _ROUNDS
    ours = [_ours(bench, PlanScorer(bench.toolbox), samples, plans) for _ in range(rounds)]
    return {"service_s": float(printed.split()[-1]), "ours_s": float(np.median(ours))}


def growth(bench: BenchmarkContext) -> dict[str, list[dict[str, Any]]]:
    """More and more plans of the first four tools on one image, then of eight each on more and more.

    Execution alone, judged by a metric that costs nothing, and its memory.
    """
    bench = replace(bench, toolbox=bench.toolbox.subset(bench.toolbox.names[:4]))
    counts = (10, 30, 100) if bench.quick else (10, 100, 1_000, 10_000)
    plans = bench.distinct_plans(counts[-1])
    by_plans = [_grown(bench, [bench.samples[0]] * count, plans[:count]) for count in counts]
    by_images: list[dict[str, Any]] = []
    for count in (1, 2, 4) if bench.quick else (1, 4, 16, 64):
        samples = [sample for sample in bench.samples[:count] for _ in range(8)]
        by_images.append({"images": count, **_grown(bench, samples, plans[: len(samples)])})
    return {"plans": by_plans, "images": by_images}


def _mean(images: Tensor) -> Tensor:
    return images.mean((1, 2, 3))


def _grown(bench: BenchmarkContext, samples: Sequence[Sample], plans: Sequence[Plan]) -> dict[str, Any]:
    """Scores by a metric that costs nothing; per distinct application of a tool."""
    bench.progress(f"growth: {len(plans)} plans, {len({sample.key for sample in samples})} images")
    free = Reward("free", (RewardTerm(FunctionMetric("mean", _mean, worst=0.0), 0, 1, 1),))
    count = sum(applications(bench, samples, plans).values())
    rounds = max(1, 300 // count) if not bench.quick else 1  # few plans are over too soon to be measured
    PlanScorer(bench.toolbox, free).score(samples[:8], plans[:8])
    with peak_memory(bench.device) as peak:
        seconds = [_ours(bench, PlanScorer(bench.toolbox, free), samples, plans) for _ in range(rounds)]
    return {
        "plans": len(plans),
        "applications": count,
        "ms_per_application": 1000 * float(np.median(seconds)) / count,
        "peak_mib": peak.bytes / 2**20,
    }
