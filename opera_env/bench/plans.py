"""Benchmarks of scoring: relative to a naive implementation and a lower bound, and for larger inputs."""

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

from opera_env.bench.context import BenchmarkContext, peak_memory
from opera_env.bench.lower_bound import count_tool_calls, lower_bound_seconds
from opera_env.bench.naive import pyiqa_metrics, score_naively
from opera_env.errors import BenchError
from opera_env.metrics import FunctionMetric
from opera_env.reward import Reward, RewardTerm
from opera_env.scoring import PlanScorer
from opera_env.search import all_plans
from opera_env.types import Plan, Sample

_NUM_REPEATS = 3

_SamplePlanPairs = Sequence[tuple[Sample, Plan]]

SERVICE_SCRIPT = Path(__file__).parents[2] / "scripts" / "http_service.py"
"""An HTTP service for tools, as published agents use them. It is in the repository, not in the package."""


def exhaustive(bench: BenchmarkContext) -> dict[str, float]:
    """Scores all 340 plans of one to four of four tools on one image."""
    plans = _all_plans(bench)
    return _compare_with_baselines(bench, [bench.samples[0]] * len(plans), plans)


def group(bench: BenchmarkContext) -> dict[str, float]:
    """Scores eight random plans of up to six tools on each of 32 images, as one GRPO update does."""
    images = bench.samples[: len(bench.samples) // 2]
    samples = [sample for sample in images for _ in range(8)]
    return _compare_with_baselines(bench, samples, bench.random_plans(len(samples), 6))


def service(bench: BenchmarkContext) -> dict[str, float]:
    """Runs the plans of :func:`exhaustive` through an HTTP service that passes files between the tools.

    Raises:
        BenchError: If the package runs outside the repository, where the script of the service is missing.
    """
    if not SERVICE_SCRIPT.is_file():
        raise BenchError(
            "scripts/http_service.py is only in the repository: run this benchmark from a clone."
        )
    plans = _all_plans(bench)
    samples = [bench.samples[0]] * len(plans)
    PlanScorer(bench.toolbox).score(samples[:4], plans[:4])
    bench.progress("service: HTTP service")
    command = [sys.executable, str(SERVICE_SCRIPT), "--toolbox", bench.toolbox_name]
    command += ["--device", str(bench.device), "--seed", str(bench.seed)]
    command += ["--length", "2" if bench.quick else "4", "--tools", *bench.toolbox.names[:4]]
    # The service runs with OpenMP's default wait policy: our command line sets another one.
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    stdout = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    bench.progress("service: ours")
    repeats = 1 if bench.quick else _NUM_REPEATS
    ours = [_time_scorer(bench, PlanScorer(bench.toolbox), samples, plans) for _ in range(repeats)]
    return {"service_s": float(stdout.split()[-1]), "ours_s": float(np.median(ours))}


def scaling(bench: BenchmarkContext) -> dict[str, list[dict[str, Any]]]:
    """Measures time and memory of execution for more plans on one image, and for more images.

    Four tools are used. A metric that takes almost no time replaces the reward; each image has eight plans.
    """
    bench = replace(bench, toolbox=bench.toolbox.subset(bench.toolbox.names[:4]))
    counts = (10, 30, 100) if bench.quick else (10, 100, 1_000, 10_000)
    plans = bench.distinct_plans(counts[-1])
    by_plans = [_measure_scaling(bench, [bench.samples[0]] * count, plans[:count]) for count in counts]
    by_images: list[dict[str, Any]] = []
    for count in (1, 2, 4) if bench.quick else (1, 4, 16, 64):
        samples = [sample for sample in bench.samples[:count] for _ in range(8)]
        by_images.append({"images": count, **_measure_scaling(bench, samples, plans[: len(samples)])})
    return {"plans": by_plans, "images": by_images}


def _all_plans(bench: BenchmarkContext) -> list[Plan]:
    return [plan for plan in all_plans(bench.toolbox.names[:4], 2 if bench.quick else 4) if plan]


def _time_scorer(
    bench: BenchmarkContext, scorer: PlanScorer, samples: Sequence[Sample], plans: Sequence[Plan]
) -> float:
    return bench.seconds(lambda: scorer.score(samples, plans, restored=False))


def _compare_with_baselines(
    bench: BenchmarkContext, samples: Sequence[Sample], plans: Sequence[Plan]
) -> dict[str, float]:
    """Measures ours, the naive implementation and the lower bound in turn.

    Each repeat runs a part of the naive plans, so that all three see the same state of the machine. The
    naive implementation uses all threads or one, whichever is faster on these small images.
    """
    compute_metrics = pyiqa_metrics(bench.device)
    pairs = list(zip(samples, plans, strict=True))

    def time_naive(pairs: _SamplePlanPairs) -> float:
        return sum(
            bench.seconds(partial(score_naively, bench.toolbox, *pair, compute_metrics)) for pair in pairs
        )

    time_naive(pairs[:1])
    threads = min(
        (torch.get_num_threads(), 1), key=lambda count: _with_threads(count, time_naive, pairs[:8])
    )
    PlanScorer(bench.toolbox).score(samples[:4], plans[:4])
    repeats = 1 if bench.quick else _NUM_REPEATS
    naive, ours, lower_bounds = 0.0, [], []
    for number in range(repeats):
        bench.progress(f"ours, repeat {number + 1} of {repeats}")
        ours.append(_time_scorer(bench, PlanScorer(bench.toolbox), samples, plans))
        bench.progress(f"naive, repeat {number + 1} of {repeats}")
        naive += _with_threads(threads, time_naive, pairs[number::repeats])
        lower_bounds.append(lower_bound_seconds(bench, samples, plans))
    tools, metrics = (float(np.median(column)) for column in zip(*lower_bounds, strict=True))
    return {
        "naive_s": naive,
        "naive_threads": threads,
        "ours_s": float(np.median(ours)),
        "lower_bound_s": tools + metrics,
        "lower_bound_tools_s": tools,
        "lower_bound_metrics_s": metrics,
        "plans": len(plans),
        "tool_calls": sum(count_tool_calls(bench, samples, plans).values()),
    }


def _with_threads(count: int, work: Callable[[_SamplePlanPairs], float], pairs: _SamplePlanPairs) -> float:
    previous_count = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        return work(pairs)
    finally:
        torch.set_num_threads(previous_count)


def _mean(images: Tensor) -> Tensor:
    return images.mean((1, 2, 3))


def _measure_scaling(
    bench: BenchmarkContext, samples: Sequence[Sample], plans: Sequence[Plan]
) -> dict[str, Any]:
    """Returns milliseconds per distinct tool call and peak memory."""
    bench.progress(f"scaling: {len(plans)} plans, {len({sample.key for sample in samples})} images")
    free = Reward("free", (RewardTerm(FunctionMetric("mean", _mean, worst=0.0), 0, 1, 1),))
    count = sum(count_tool_calls(bench, samples, plans).values())
    repeats = max(1, 300 // count) if not bench.quick else 1  # a few plans alone are too short to measure
    PlanScorer(bench.toolbox, free).score(samples[:8], plans[:8])
    with peak_memory(bench.device) as peak:
        seconds = [
            _time_scorer(bench, PlanScorer(bench.toolbox, free), samples, plans) for _ in range(repeats)
        ]
    return {
        "plans": len(plans),
        "tool_calls": count,
        "ms_per_tool_call": 1000 * float(np.median(seconds)) / count,
        "peak_mib": peak.bytes / 2**20,
    }
