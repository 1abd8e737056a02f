"""The setting that the tests of the benchmarks share."""

from __future__ import annotations

import pytest

from opera_env.bench.config import STUDY_TOOLS
from opera_env.bench.context import BenchmarkContext
from opera_env.tools import Toolbox


@pytest.fixture(scope="module")
def bench() -> BenchmarkContext:
    return BenchmarkContext(Toolbox.load("lite").subset(STUDY_TOOLS), quick=True)
