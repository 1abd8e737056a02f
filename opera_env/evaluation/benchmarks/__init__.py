"""Benchmarks: named lists of samples with their groups."""

from __future__ import annotations

from opera_env.errors import UnknownPresetError
from opera_env.evaluation.benchmarks.benchmark import Benchmark, BenchmarkSample, image_digest
from opera_env.evaluation.benchmarks.named import BENCHMARKS, EACH_TOOL, BenchmarkOptions
from opera_env.evaluation.benchmarks.versioned import VERSIONS, load_version

__all__ = [
    "BENCHMARKS",
    "EACH_TOOL",
    "VERSIONS",
    "Benchmark",
    "BenchmarkOptions",
    "BenchmarkSample",
    "image_digest",
    "load_benchmark",
]


def load_benchmark(name: str, options: BenchmarkOptions | None = None) -> Benchmark:
    """Loads a benchmark by its name.

    Args:
        name: A key of :data:`BENCHMARKS` or :data:`VERSIONS`.
        options: What it is made from.

    Raises:
        UnknownPresetError: If there is no benchmark of that name.
        SettingError: If an option is missing, or is one that the benchmark does not take.
        SampleError: If a folder does not hold what it should.
    """
    options = options or BenchmarkOptions()
    if name in VERSIONS:
        return load_version(name, options)
    if name not in BENCHMARKS:
        raise UnknownPresetError("benchmark", name, (*VERSIONS, *BENCHMARKS))
    return BENCHMARKS[name](options)
