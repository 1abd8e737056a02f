"""The judge: its R_q is that of the reward, whatever other columns it computes."""

from __future__ import annotations

import pytest

from opera_env.errors import MetricError, RewardError
from opera_env.evaluation.judging import Judge
from opera_env.evaluation.protocols import ColumnMetrics
from opera_env.metrics import FunctionMetric
from opera_env.reward import Reward, RewardTerm
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import Sample
from tests.evaluation.conftest import PSNR, SSIM


def brightness(name: str, factor: float) -> Reward:
    metric = FunctionMetric(name, lambda images: factor * images.mean((1, 2, 3)), worst=0.0)
    return Reward("brightness", (RewardTerm(metric, 0, 1, 10),))


def test_r_q_does_not_depend_on_the_columns(
    samples: list[Sample], toolbox: Toolbox, columns: ColumnMetrics
) -> None:
    plan = ("tiny.blur",)
    (outcome,) = PlanScorer(toolbox, PSNR).score([samples[0]], [plan])
    for found in (columns, ColumnMetrics(())):
        judged = Judge(toolbox, PSNR, SSIM, found).score(samples[0], plan)
        assert judged.r_q == outcome.r_q
        assert judged.r_q_seen == pytest.approx(10 * judged.metrics["ssim_y"], abs=1e-5)


def test_a_metric_of_a_reward_takes_the_place_of_a_column(
    samples: list[Sample], toolbox: Toolbox, columns: ColumnMetrics
) -> None:
    own = brightness("psnr_y", 2.0)
    judged = Judge(toolbox, own, own, columns).score(samples[0], ())
    assert judged.metrics["psnr_y"] == pytest.approx(2 * samples[0].lq.mean().item(), abs=1e-2)


def test_two_metrics_of_one_name_are_refused(toolbox: Toolbox, columns: ColumnMetrics) -> None:
    with pytest.raises(RewardError, match="two metrics called 'light': rename one"):
        Judge(toolbox, brightness("light", 1.0), brightness("light", 2.0), columns)


def test_a_reward_that_needs_a_reference_is_refused_without(
    samples: list[Sample], toolbox: Toolbox, columns: ColumnMetrics
) -> None:
    with pytest.raises(MetricError, match="compares with a reference image"):
        Judge(toolbox, PSNR, PSNR, columns).score(samples[0].blind(), ())
