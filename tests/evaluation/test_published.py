"""The published numbers agree with each other: the paper's table 1 is the mean of its table 8."""

from __future__ import annotations

import numpy as np
import pytest

from opera_env.degradations import BENCHMARK_GROUPS
from opera_env.evaluation.published import PUBLISHED_COMBINATIONS, PUBLISHED_GROUPS


@pytest.mark.parametrize("group", BENCHMARK_GROUPS)
def test_groups_are_unweighted_means_of_combinations(group: str) -> None:
    rows = [PUBLISHED_COMBINATIONS["+".join(recipe)] for recipe in BENCHMARK_GROUPS[group]]
    (full,) = [row for row in PUBLISHED_GROUPS[group] if row.method == "OPERA, full"]
    for name, value in full.values.items():
        assert np.mean([row.values[name] for row in rows]) == pytest.approx(value, abs=0.0051), name
