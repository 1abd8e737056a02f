"""The evaluation of metrics without reference: intervals, image scores and the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from opera_agents.critic.evaluate import (
    EvaluateConfig,
    main,
    make_image_scorer,
    score_samples,
    summarise,
)
from opera_agents.critic.ranking import ranking_metrics
from opera_env.reward import get_reward

R_Q = np.array([9.8, 3.0, 5.0, 4.0, 7.0])
IS_REFERENCE = np.array([True, False, False, False, False])


def test_intervals_resample_photographs() -> None:
    metrics = [ranking_metrics(R_Q * sign, R_Q, IS_REFERENCE) for sign in (1, 1, -1, -1)]
    apart = summarise(metrics, [("a", 0), ("a", 1), ("a", 2), ("a", 3)])["spearman"]
    assert apart.mean == pytest.approx(0)
    assert apart.low < 0 < apart.high
    together = summarise(metrics, [("a", 0)] * 4)["spearman"]
    assert np.isnan(together.low), "one photograph gives no interval"


def test_image_scores_do_not_depend_on_the_batch_size() -> None:
    images = torch.randint(0, 256, (5, 3, 64, 64), dtype=torch.uint8)
    values = make_image_scorer(get_reward("no_reference"), batch_size=2)(images)
    assert values.shape == (5,) and ((values >= 0) & (values <= 10)).all()
    assert values == pytest.approx(make_image_scorer(get_reward("no_reference"))(images), abs=0.05)


def test_the_command_prints_tables_and_writes_json(
    photos: Path, small_toolbox: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = EvaluateConfig(
        photos,
        tmp_path / "out.json",
        critic_weights=None,
        n=4,
        plans_per_sample=5,
        reward="classic",
        toolbox=str(small_toolbox),
        canvas=64,
    )
    main(config)
    results = json.loads((tmp_path / "out.json").read_text())
    assert list(results) == ["held-out recipes", "benchmark"]
    for rows in results.values():
        *metrics, difference = rows
        assert metrics == ["label_free", "no_reference", "untouched"]
        assert difference == "label_free - no_reference"
        gain = rows["label_free"]["regret"]["mean"] - rows["no_reference"]["regret"]["mean"]
        assert rows[difference]["regret"]["mean"] == pytest.approx(gain)
        for row in (rows[name] for name in metrics):
            assert list(row) == ["spearman", "kendall", "reference_first", "regret"]
            assert -1 <= row["spearman"]["mean"] <= 1 and row["regret"]["mean"] >= 0
    printed = capsys.readouterr().out
    assert "held-out recipes" in printed and "no_reference" in printed


def test_samples_with_own_degradations(photos: Path, small_toolbox: Path) -> None:
    config = EvaluateConfig(
        photos,
        n=2,
        plans_per_sample=3,
        reward="classic",
        degradations="tests.degradations.own:OWN_DEGRADATIONS",
        toolbox=str(small_toolbox),
        canvas=64,
    )
    scored_images, _ = score_samples(config, [("vignette", "noise"), ("salt_and_pepper",)])
    assert scored_images.recipes == (("vignette", "noise"), ("salt_and_pepper",))
