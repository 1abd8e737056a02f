"""Measures what each optimisation of scoring contributes: 340 plans, one optimisation removed at a time.

Example:
    python scripts/ablation.py --rounds 5
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from opera_env.bench.config import STUDY_TOOLS
from opera_env.bench.context import BenchmarkContext
from opera_env.command_line import parse_settings
from opera_env.metrics import PyiqaMetric
from opera_env.reward import REWARD_PRESETS, Reward
from opera_env.scoring import PlanScorer
from opera_env.search import all_plans
from opera_env.tools import Toolbox
from opera_env.types import Plan, Sample

ScoreFn = Callable[[list[Sample], list[Plan]], object]


@dataclass(frozen=True)
class AblationConfig:
    """Measures all variants in turn, several times, and prints the median seconds of each."""

    rounds: int = 3
    """Number of measurements of each variant."""
    length: int = 4
    """Largest number of tools in a plan."""


class SingleWorkerScorer(PlanScorer):
    """Runs one batch after the other, each with all threads."""

    def _num_workers(self, samples: Any) -> int:
        return 1


class UncachedReferenceScorer(PlanScorer):
    """Computes the features of the reference again for every batch."""

    def _submit(self, *args: Any, **kwargs: Any) -> Any:
        self._references.clear()
        return super()._submit(*args, **kwargs)


def with_pyiqa(name: str, **options: Any) -> Reward:
    """Returns the preset ``lite`` with pyiqa's implementation of one metric."""
    lite = REWARD_PRESETS["lite"]
    pyiqa_metric = PyiqaMetric(name.removesuffix("_y"), worst=0.0, higher_is_better=True, **options)
    pyiqa_metric.concurrent = name == "ssim_y"  # pyiqa's PIQE keeps state between calls
    terms = (replace(term, metric=pyiqa_metric) if term.metric == name else term for term in lite.terms)
    return Reward("lite", tuple(terms))


def variants(toolbox: Toolbox) -> dict[str, ScoreFn]:
    """Returns the variants by name; each call creates a new scorer, without caches."""
    luma = {"test_y_channel": True, "color_space": "ycbcr", "needs_reference": True}
    piqe, ssim = with_pyiqa("piqe"), with_pyiqa("ssim_y", **luma)

    def score_one_by_one(samples: list[Sample], plans: list[Plan]) -> None:
        scorer = PlanScorer(toolbox)
        for sample, plan in zip(samples, plans, strict=True):
            scorer.score([sample], [plan], restored=False)

    def batched(make_scorer: Callable[[], PlanScorer]) -> ScoreFn:
        return lambda samples, plans: make_scorer().score(samples, plans, restored=False)

    return {
        "all optimisations": batched(lambda: PlanScorer(toolbox)),
        "one worker": batched(lambda: SingleWorkerScorer(toolbox)),
        "batches of 1 image": batched(lambda: PlanScorer(toolbox, batch_size=1)),
        "batches of 64 images": batched(lambda: PlanScorer(toolbox, batch_size=64)),
        "reference features not cached": batched(lambda: UncachedReferenceScorer(toolbox)),
        "pyiqa's PIQE": batched(lambda: PlanScorer(toolbox, piqe)),
        "pyiqa's SSIM": batched(lambda: PlanScorer(toolbox, ssim)),
        "plan by plan, no shared prefixes": score_one_by_one,
    }


def main(config: AblationConfig) -> None:
    """Measures all variants and prints a table."""
    bench = BenchmarkContext(Toolbox.load("lite").subset(STUDY_TOOLS), quick=True)
    plans = [plan for plan in all_plans(STUDY_TOOLS, config.length) if plan]
    samples = [bench.samples[0]] * len(plans)
    scorers = variants(bench.toolbox)
    scorers["all optimisations"](samples[:8], plans[:8])
    seconds: dict[str, list[float]] = {name: [] for name in scorers}
    for _ in range(config.rounds):
        for name, score in scorers.items():
            seconds[name].append(bench.seconds(lambda score=score: score(samples, plans)))
    medians = {name: float(np.median(values)) for name, values in seconds.items()}
    table = Table(f"{len(plans)} plans, {torch.get_num_threads()} threads", "s", "relative time")
    for name, median in medians.items():
        table.add_row(name, f"{median:.2f}", f"{median / medians['all optimisations']:.2f} x")
    Console().print(table)


if __name__ == "__main__":
    main(parse_settings(AblationConfig))
