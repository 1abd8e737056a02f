"""The table of benchmarks: how each is measured and how its figures are reported.

To add one, write a function from :class:`BenchmarkContext` to JSON types, a function from that result to
report rows (``report.py``), and add both to :data:`BENCHMARKS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from opera_env.bench import report
from opera_env.bench.context import BenchmarkContext
from opera_env.bench.cotraining import cotraining
from opera_env.bench.environments import overhead, vector
from opera_env.bench.large import large
from opera_env.bench.paper import paper
from opera_env.bench.plans import exhaustive, group, scaling, service
from opera_env.bench.startup import startup


@dataclass(frozen=True)
class Benchmark:
    """One benchmark.

    Attributes:
        measure: Returns the figures as JSON types.
        report: Turns the figures into the rows of a table.
    """

    measure: Callable[[BenchmarkContext], Any]
    report: Callable[[Any], Iterator[report.ReportRow]]


BENCHMARKS: Mapping[str, Benchmark] = {
    "exhaustive": Benchmark(exhaustive, report.report_baselines),
    "group": Benchmark(group, report.report_baselines),
    "service": Benchmark(service, report.report_service),
    "vector": Benchmark(vector, report.report_vector),
    "overhead_ms": Benchmark(overhead, report.report_overhead),
    "large": Benchmark(large, report.report_large),
    "scaling": Benchmark(scaling, report.report_scaling),
    "cotraining": Benchmark(cotraining, report.report_cotraining),
    "startup": Benchmark(startup, report.report_startup),
    "paper": Benchmark(paper, report.report_paper),
}
"""All benchmarks by their key in the JSON file."""
