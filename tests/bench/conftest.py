"""The setting that the tests of the benchmarks share."""

from __future__ import annotations

import pytest

from opera_env.bench import STUDY_TOOLS, BenchmarkContext
from opera_env.tools import Toolbox


@pytest.fixture(scope="module")
def bench() -> BenchmarkContext:
    return BenchmarkContext(Toolbox.load("lite").subset(STUDY_TOOLS), quick=True)
