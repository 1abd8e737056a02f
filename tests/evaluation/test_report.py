"""The summary of a comparison."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

from opera_env.evaluation.compare import Comparison, EvaluationConfig, compare_agents
from opera_env.evaluation.report import paired_difference, summarise
from opera_env.tools import Toolbox
from opera_env.types import Sample


@pytest.fixture(scope="module")
def comparison(samples: list[Sample], make_toolbox: Callable[[], Toolbox]) -> Comparison:
    config = EvaluationConfig(
        reward="classic", max_tools=2, frozen_max_length=1, frozen_beam_width=1, num_plans=3
    )
    return compare_agents(("untouched", "random", "greedy"), samples, make_toolbox(), config)


def rewards(comparison: Comparison, agent: str) -> np.ndarray:
    return np.array([record.reward for record in comparison.records if record.agent == agent])


def test_the_summary_is_json_and_complete(comparison: Comparison, samples: list[Sample]) -> None:
    summary = json.loads(json.dumps(summarise(comparison), allow_nan=True))
    assert set(summary) == {"agents", "groups", "differences", "config"}
    row = summary["agents"]["greedy"]
    assert {"reward", "psnr_y", "tools", "images_scored", "seconds", "regret"} <= set(row)
    assert set(row["reward"]) == {"mean", "low", "high"}
    assert row["reward"]["mean"] == pytest.approx(rewards(comparison, "greedy").mean())
    assert summary["config"]["fingerprint"]
    assert (summary["config"]["num_plans"], summary["config"]["num_samples"]) == (3, len(samples))


def test_paired_differences_in_both_directions(comparison: Comparison) -> None:
    summary = summarise(comparison)
    expected = (rewards(comparison, "greedy") - rewards(comparison, "random")).mean()
    forward = paired_difference(summary, "greedy", "random")
    backward = paired_difference(summary, "random", "greedy")
    assert forward.mean == pytest.approx(expected)
    assert backward.mean == pytest.approx(-expected)
    assert (backward.low, backward.high) == (-forward.high, -forward.low)
