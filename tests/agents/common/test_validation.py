"""Validation measures reward, regret and F1 on fixed samples, and writes them as curves and text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from opera_agents.common.validation import Validation, ValidationResult, format_validation, log_validation
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import Decision, Observation


class FixedPlan:
    """An agent with one plan for every image."""

    closed_loop = False

    def __init__(self, *plan: str, degradations: frozenset[str] | None = None) -> None:
        self.decision = Decision(plan, degradations=degradations)

    def act(self, observations: Sequence[Observation]) -> list[Decision]:
        return [self.decision for _ in observations]


def result(regret: float | None = None, f1: float | None = None) -> ValidationResult:
    return ValidationResult(
        7.25, 2.0, f1, regret, {"psnr_y": 24.5}, torch.zeros(3, 2, 6, dtype=torch.uint8)
    )


def test_reward_is_the_mean_score_less_the_tool_cost(photos: Path, toolbox: Toolbox) -> None:
    validation = Validation(photos, toolbox, "classic", count=3, canvas=64, max_tools=3, tool_cost=0.5)
    agent = FixedPlan("tiny.blur", "tiny.brighten", degradations=frozenset({"noise"}))
    actual = validation(agent)
    plans = [agent.decision.plan] * 3
    outcomes = PlanScorer(toolbox, "classic").score(validation.samples, plans)
    assert actual.reward == pytest.approx(np.mean([outcome.r_q for outcome in outcomes]) - 1.0)
    assert actual.length == 2.0 and actual.regret is None
    assert actual.f1 is not None and 0 <= actual.f1 < 1
    assert set(actual.metrics) == set(outcomes[0].metrics)
    assert actual.image_grid.shape == (3, 3 * 64, 3 * 64) and actual.image_grid.dtype == torch.uint8


def test_samples_are_the_same_for_every_agent(photos: Path, toolbox: Toolbox) -> None:
    first, second = (Validation(photos, toolbox, "classic", count=4, canvas=64) for _ in range(2))
    assert [sample.key for sample in first.samples] == [sample.key for sample in second.samples]
    assert first(FixedPlan()).f1 is None


def test_best_rewards_are_searched_once(photos: Path, small_toolbox: Path, tmp_path: Path) -> None:
    toolbox = Toolbox.load(small_toolbox)
    make = lambda: Validation(photos, toolbox, "classic", 2, 64, 2, regret_dir=tmp_path)  # noqa: E731
    actual = make()(FixedPlan())
    assert actual.regret is not None and actual.regret >= -1e-3
    (path,) = tmp_path.glob("frozen-*.json")
    path.write_text(json.dumps([value + 1 for value in json.loads(path.read_text())]))
    assert make()(FixedPlan()).regret == pytest.approx(actual.regret + 1, abs=1e-4)
    for damage in ("", "[1.0]", '["a", "b"]', "7"):
        path.write_text(damage)
        assert make()(FixedPlan()).regret == pytest.approx(actual.regret, abs=1e-4)


def test_sampled_plans_are_validated_on_the_same_samples(photos: Path, toolbox: Toolbox) -> None:
    validation = Validation(photos, toolbox, "classic", count=3, canvas=64, max_tools=3, tool_cost=0.5)
    greedy, sampling = FixedPlan(), FixedPlan("tiny.blur", "tiny.brighten")
    actual = validation(greedy, sampling)
    assert (actual.length, actual.length_sampled) == (0.0, 2.0)
    assert actual.reward == validation(greedy).reward
    assert actual.reward_sampled == validation(sampling).reward
    assert validation(greedy).reward_sampled is None


def test_own_scorer_is_used(photos: Path, toolbox: Toolbox) -> None:
    scorer = PlanScorer(toolbox, "classic")
    validation = Validation(photos, toolbox, "classic", count=2, canvas=64, scorer=scorer)
    validation(FixedPlan("tiny.blur"))
    assert validation.scorer is scorer and scorer.images_scored == 2


def test_text_names_what_is_known() -> None:
    assert format_validation(result()) == "reward 7.250, 2.0 tools, psnr_y 24.500"
    full = "reward 7.250, regret 0.125, F1 0.50, 2.0 tools, psnr_y 24.500"
    assert format_validation(result(0.125, 0.5)) == full
    sampled = replace(result(), reward_sampled=6.5, length_sampled=1.25)
    assert format_validation(sampled) == f"{format_validation(result())}, sampled: reward 6.500, 1.2 tools"


def test_log_writes_the_tags_of_all_trainers(tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path)) as writer:
        log_validation(writer, result(0.125), 3)
        log_validation(writer, replace(result(), reward_sampled=6.5, length_sampled=1.5), 4)
    events = EventAccumulator(str(tmp_path)).Reload()
    tags = {
        "val/reward",
        "val/length",
        "val/regret",
        "val/psnr_y",
        "val/reward_sampled",
        "val/length_sampled",
    }
    assert set(events.Tags()["scalars"]) == tags
    assert events.Scalars("val/reward_sampled")[0].value == 6.5
    assert events.Tags()["images"] == ["val/input_restored_reference"]
    assert events.Scalars("val/reward")[0].step == 3
