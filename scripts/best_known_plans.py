"""Searches the best known plan of each sample of a benchmark, by which scores are normalised.

All plans of up to two tools, those of a beam search, and those of files of results are tried. The same
command resumes an interrupted search.

Example:
    python scripts/best_known_plans.py --toolbox lite --out best.jsonl --plans results/OPERA-Lite-v1/*.jsonl
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from opera_env.cli.outputs import check_outputs, progress_bars, write_output
from opera_env.cli.program import run_program
from opera_env.devices import resolve_device
from opera_env.evaluation.benchmarks import BenchmarkOptions, load_benchmark
from opera_env.evaluation.best_plans import (
    BestPlan,
    BestPlans,
    best_of_sample,
    write_best_plans,
)
from opera_env.evaluation.judging import Judge
from opera_env.evaluation.partial import PARTIAL_SUFFIX, partial_results
from opera_env.evaluation.protocols import ColumnMetrics
from opera_env.evaluation.records import EvaluationConfig
from opera_env.evaluation.results import spec_digest
from opera_env.evaluation.scorers import CachingScorer
from opera_env.evaluation.stored_plans import read_plans
from opera_env.execution import PrefixCache
from opera_env.scoring import PlanScorer
from opera_env.settings import NonNegativeInt, PositiveInt, Range, check_settings
from opera_env.tools import Toolbox
from opera_env.types import Plan


@dataclass(frozen=True)
class BestKnownPlans:
    """Searches the best known plan of each sample of a benchmark with a toolbox."""

    out: Path
    """File for the plans."""
    benchmark: str = "OPERA-Lite-v1"
    """Name of the benchmark."""
    hq: Path | None = None
    """Folder of the clean photographs, if they are not bundled."""
    toolbox: str = "lite"
    """A shipped toolbox, or a folder written by Toolbox.save."""
    judge: str = "lite"
    """Reward that judges the results."""
    plans: tuple[Path, ...] = ()
    """Files of results, or of plans, whose plans are tried as well. Plans with tools that the toolbox does
    not have are left out."""
    max_length: NonNegativeInt = 2
    """All plans of up to so many tools are tried."""
    beam_width: PositiveInt = 8
    """Width of the beam search."""
    max_tools: Annotated[int, Range(1, 100)] = 6
    """Maximum number of tools in a plan of the beam search."""
    device: str = "auto"
    """cpu, cuda or auto."""
    force: bool = False
    """Replace an existing file."""
    trust_code: bool = False
    """Run code that the toolbox folder names."""

    def __post_init__(self) -> None:
        check_settings(self)


def search(config: BestKnownPlans) -> BestPlans:
    """Searches the plans and writes the file."""
    check_outputs({"--out": config.out}, config.force)
    toolbox = Toolbox.load(config.toolbox, resolve_device(config.device), config.trust_code)
    benchmark = load_benchmark(config.benchmark, BenchmarkOptions(hq=config.hq))
    more: dict[str, dict[Plan, None]] = {}
    for path in config.plans:
        for stored in read_plans(path, benchmark):
            if set(stored.plan) <= set(toolbox.names):
                more.setdefault(spec_digest(stored.sample.spec), {})[stored.plan] = None
    settings = {
        "benchmark": benchmark.name,
        "toolbox": toolbox.fingerprint,
        "more": {digest: list(plans) for digest, plans in more.items()},
        **{name: getattr(config, name) for name in ("judge", "max_length", "beam_width", "max_tools")},
    }
    evaluation = EvaluationConfig(
        config.judge,
        max_tools=config.max_tools,
        frozen_max_length=config.max_length,
        frozen_beam_width=config.beam_width,
    )
    judge = Judge(toolbox, config.judge, config.judge, ColumnMetrics(()))
    plan_scorer = PlanScorer(toolbox, config.judge, cache=PrefixCache())
    found: dict[str, BestPlan] = {}
    is_interrupted = Path(f"{config.out}{PARTIAL_SUFFIX}").exists()
    with partial_results(config.out, settings, resume=is_interrupted) as kept, progress_bars() as bars:
        for sample in bars.track(benchmark.samples, description="samples"):
            digest = spec_digest(sample.spec)
            if kept.get(digest) is None:
                made = benchmark.make(sample)
                scorer = CachingScorer(plan_scorer)
                best = best_of_sample(made, judge, scorer, evaluation, more.get(digest, ()))
                plan_scorer.clear_caches()
                kept.save(digest, best.to_json())
            found[digest] = BestPlan.from_json(kept.get(digest))
        plans = BestPlans(
            benchmark.name,
            toolbox.signature,
            toolbox.fingerprint,
            config.judge,
            found,
        )
        with write_output(config.out, config.force) as part:
            write_best_plans(plans, part)
        kept.is_complete = True
    return plans


if __name__ == "__main__":
    run_program(BestKnownPlans, search)
