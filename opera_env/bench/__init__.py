"""How fast this is on the machine at hand: beside the naive way, and beside what cannot be undercut."""

from opera_env.bench.parts import PARTS, Part
from opera_env.bench.settings import FOUR, BenchmarkContext

__all__ = ["FOUR", "PARTS", "BenchmarkContext", "Part"]
