"""What each part of the speed gives: the 340 plans of the benchmark with everything but one part.

Example:
    python scripts/ablation.py --rounds 5
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table

from opera_env.bench import FOUR, BenchmarkContext
from opera_env.metrics import PyiqaMetric
from opera_env.reward import REWARD_PRESETS, Reward
from opera_env.scoring import PlanScorer
from opera_env.search import all_plans
from opera_env.tools import Toolbox
from opera_env.types import Plan, Sample


@dataclass(frozen=True)
class AblationConfig:
    """Measures all variants in turn, several times."""

    rounds: int = 3
    """Times that each is measured; the median counts."""
    length: int = 4
    """Longest plan."""


class SingleWorkerScorer(PlanScorer):
    """One batch after the other, each by all threads."""

    def _lanes(self, samples: Any) -> int:
        return 1


class UncachedReferenceScorer(PlanScorer):
    """Prepares the reference again for every batch."""

    def _submit(self, *args: Any) -> Any:
        self._references.clear()
        return super()._submit(*args)


def with_pyiqa(name: str, **options: Any) -> Reward:
    """Preset ``lite`` with one metric as pyiqa has it."""
    lite = REWARD_PRESETS["lite"]
    theirs = PyiqaMetric(name.removesuffix("_y"), worst=0.0, higher_is_better=True, **options)
    theirs.concurrent = name == "ssim_y"  # pyiqa's PIQE keeps something of every call
    terms = (replace(term, metric=theirs) if term.metric == name else term for term in lite.terms)
    return Reward("lite", tuple(terms))


def variants(toolbox: Toolbox) -> dict[str, Callable[[list[Sample], list[Plan]], object]]:
    """Returns what is measured, by name; scorers are new each time."""
    luma = {"test_y_channel": True, "color_space": "ycbcr", "needs_reference": True}
    piqe, ssim = with_pyiqa("piqe"), with_pyiqa("ssim_y", **luma)

    def each(samples: list[Sample], plans: list[Plan]) -> None:
        scorer = PlanScorer(toolbox)
        for sample, plan in zip(samples, plans, strict=True):
            scorer.score([sample], [plan], restored=False)

    def scored(scorer: Callable[[], PlanScorer]) -> Callable[[list[Sample], list[Plan]], object]:
        return lambda samples, plans: scorer().score(samples, plans, restored=False)

    return {
        "all of it": scored(lambda: PlanScorer(toolbox)),
        "batches one after the other": scored(lambda: SingleWorkerScorer(toolbox)),
        "batches of one image": scored(lambda: PlanScorer(toolbox, batch=1)),
        "batches of 64 images": scored(lambda: PlanScorer(toolbox, batch=64)),
        "the reference prepared for every batch": scored(lambda: UncachedReferenceScorer(toolbox)),
        "pyiqa's PIQE": scored(lambda: PlanScorer(toolbox, piqe)),
        "pyiqa's SSIM": scored(lambda: PlanScorer(toolbox, ssim)),
        "plan by plan, nothing shared": each,
    }


def main(options: AblationConfig) -> None:
    bench = BenchmarkContext(Toolbox.load("lite").subset(FOUR), quick=True)
    plans = [plan for plan in all_plans(FOUR, options.length) if plan]
    samples = [bench.samples[0]] * len(plans)
    works = variants(bench.toolbox)
    works["all of it"](samples[:8], plans[:8])
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(options.rounds):
        for name, work in works.items():
            seconds[name].append(bench.seconds(lambda work=work: work(samples, plans)))
    median = {name: float(np.median(taken)) for name, taken in seconds.items()}
    table = Table(f"{len(plans)} plans, {torch.get_num_threads()} threads", "s", "beside all of it")
    for name, taken in median.items():
        table.add_row(name, f"{taken:.2f}", f"{taken / median['all of it']:.2f} x")
    Console().print(table)


if __name__ == "__main__":
    main(tyro.cli(AblationConfig))
