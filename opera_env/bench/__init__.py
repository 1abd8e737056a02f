"""Speed and memory on this machine, relative to a naive implementation and to a measured lower bound.

Example:
    opera-env bench --only exhaustive scaling
"""

from opera_env.bench.benchmarks import BENCHMARKS, Benchmark
from opera_env.bench.context import STUDY_TOOLS, BenchmarkContext

__all__ = ["BENCHMARKS", "STUDY_TOOLS", "Benchmark", "BenchmarkContext"]
