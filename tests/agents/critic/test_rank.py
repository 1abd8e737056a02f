"""How rankings are measured: by hand, and the command at tiny size."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from opera_agents.critic.collect import ScoredImages
from opera_agents.critic.rank import (
    RankConfig,
    draw_distinct_plans,
    main,
    make_image_scorer,
    ranking,
    ranking_metrics_per_sample,
    summarise,
)
from opera_env.data import Source
from opera_env.reward import get_reward
from opera_env.tools import Toolbox

R_Q = np.array([9.8, 3.0, 5.0, 4.0, 7.0])
CLEAN = np.array([True, False, False, False, False])


def test_a_perfect_ranking() -> None:
    found = ranking(R_Q / 2, R_Q, CLEAN)
    assert (found.spearman, found.kendall) == pytest.approx((1, 1))
    assert (found.reference_first, found.regret) == (1, 0)


def test_a_wrong_one_by_hand() -> None:
    """Two neighbours of four change places, the best one is missed, and the original comes second."""
    found = ranking(np.array([8.0, 1.0, 9.0, 2.0, 3.0]), R_Q, CLEAN)
    assert found.spearman == pytest.approx(1 - 6 * 2 / (4 * 15))
    assert found.kendall == pytest.approx(4 / 6)
    assert found.reference_first == 0
    assert found.regret == pytest.approx(2.0)


def test_a_tie_with_the_original_is_not_first_and_a_constant_ranks_nothing() -> None:
    found = ranking(np.ones(5), R_Q, CLEAN)
    assert (found.spearman, found.kendall, found.reference_first) == (0, 0, 0)


def test_undamaged_photographs_are_left_out() -> None:
    judged = ScoredImages(
        torch.zeros(6, 3, 4, 4, dtype=torch.uint8),
        torch.tensor([[9.0], [9.0], [2.0], [9.0], [1.0], [3.0]]),
        torch.tensor([0, 0, 0, 1, 1, 1]),
        torch.tensor([True, False, False, True, False, False]),
        ((), ("rain",)),
    )
    (found,) = ranking_metrics_per_sample(judged, judged.r_q.double().numpy())
    assert found.spearman == pytest.approx(1)


def test_intervals_are_over_photographs() -> None:
    found = [ranking(R_Q * sign, R_Q, CLEAN) for sign in (1, 1, -1, -1)]
    apart = summarise(found, [("a", 0), ("a", 1), ("a", 2), ("a", 3)])["spearman"]
    assert apart.mean == pytest.approx(0)
    assert apart.low < 0 < apart.high
    together = summarise(found, [("a", 0)] * 4)["spearman"]
    assert np.isnan(together.low), "one photograph says nothing about others"


def test_images_are_valued_by_the_reward() -> None:
    images = torch.randint(0, 256, (5, 3, 64, 64), dtype=torch.uint8)
    values = make_image_scorer(get_reward("no_reference"), batch=2)(images)
    assert values.shape == (5,) and ((values >= 0) & (values <= 10)).all()
    assert values == pytest.approx(make_image_scorer(get_reward("no_reference"))(images), abs=0.05)


def test_there_are_as_many_plans_as_asked_for(toolbox: Toolbox, source: Source) -> None:
    rng = np.random.default_rng(0)
    plans = draw_distinct_plans(toolbox, source.make(source.draw(rng)), rng, 24)
    assert len(plans) == len(set(plans)) == 24 and plans[0] == ()


def test_the_command(
    photos: Path, small_toolbox: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = RankConfig(
        photos,
        tmp_path / "out.json",
        weights=None,
        count=4,
        plans=5,
        reward="classic",
        toolbox=str(small_toolbox),
        canvas=64,
    )
    main(config)
    figures = json.loads((tmp_path / "out.json").read_text())
    assert list(figures) == ["held-out recipes", "benchmark"]
    for rows in figures.values():
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
