"""What the critic learns from: which recipes, which plans, and shards that can be made again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from opera_agents.critic import collect as collecting
from opera_agents.critic.collect import (
    CollectConfig,
    ScoredImages,
    collect,
    draw_plans,
    held_out_recipes,
    perturbed_plausible_plan,
    random_plan,
    score_plans,
    train_recipes,
)
from opera_env.degradations import TRAINING_RECIPES, benchmark_recipes
from opera_env.errors import AgentError
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import Sample


@pytest.fixture
def config(photos: Path, small_toolbox: Path, tmp_path: Path) -> CollectConfig:
    return CollectConfig(
        photos, tmp_path / "data", 2, samples=3, canvas=64, reward="classic", toolbox=str(small_toolbox)
    )


def equal(a: ScoredImages, b: ScoredImages) -> bool:
    return a.recipes == b.recipes and all(
        torch.equal(getattr(a, name), getattr(b, name)) for name in ("images", "terms", "sample", "clean")
    )


def test_some_combinations_are_held_out_in_every_order() -> None:
    held_out, known = held_out_recipes(), train_recipes()
    assert set(known) == {*TRAINING_RECIPES, ()} - set(held_out)
    assert not {frozenset(recipe) for recipe in held_out} & {frozenset(recipe) for recipe in known}
    of_training = [recipe for recipe in TRAINING_RECIPES if recipe in held_out]
    assert 0.12 <= len(of_training) / len(TRAINING_RECIPES) <= 0.2
    assert len({*held_out} & {*benchmark_recipes()}) >= 3
    assert {*benchmark_recipes()} & {*known}, "the benchmark is not all held out"
    assert min(map(len, held_out)) > 1, "every single degradation is known"
    assert held_out == held_out_recipes()


def test_plans_are_listed_with_their_beginnings(toolbox: Toolbox) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        plans = draw_plans(toolbox, frozenset({"noise", "low_light"}), rng, 2, 1)
        assert plans[0] == () and len(set(plans)) == len(plans)
        assert all(plan[:-1] in plans for plan in plans if plan)
    assert draw_plans(toolbox, frozenset(), rng, 0, 0) == [()]


def test_random_plans_are_of_any_length_and_seldom_enlarge(toolbox: Toolbox) -> None:
    rng = np.random.default_rng(0)
    plans = [random_plan(toolbox, rng) for _ in range(600)]
    assert {len(plan) for plan in plans} == {1, 2, 3, 4, 5, 6}
    names = [name for plan in plans for name in plan]
    counts = {name: names.count(name) for name in toolbox.names}
    others = [count for name, count in counts.items() if name != "tiny.enlarge"]
    assert 0 < counts["tiny.enlarge"] < 0.5 * min(others)


def test_sensible_plans_mend_and_sometimes_repeat(toolbox: Toolbox) -> None:
    rng = np.random.default_rng(0)
    plans = [perturbed_plausible_plan(toolbox, frozenset({"noise", "low_light"}), rng) for _ in range(200)]
    assert all({"tiny.blur", "tiny.brighten"} <= set(plan) for plan in plans)
    assert any(len(set(plan)) < len(plan) for plan in plans)
    assert sum(len(plan) == 2 for plan in plans) > 50


def test_results_are_what_the_scorer_says(toolbox: Toolbox, samples: list[Sample]) -> None:
    plans = [[(), ("tiny.blur",)], [()], [("tiny.brighten", "tiny.blur")], [()]]
    scorer = PlanScorer(toolbox, "classic")
    judged = ScoredImages.join(list(score_plans(scorer, samples, plans)))
    assert judged.sample.tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 3]
    assert judged.clean.tolist() == [True, False, False, True, False, True, False, True, False]
    assert judged.recipes == tuple(sample.spec.recipe for sample in samples)
    row = 2
    (outcome,) = PlanScorer(toolbox, "classic").score([samples[0]], [("tiny.blur",)])
    assert outcome.restored is not None and torch.equal(judged.images[row], outcome.restored)
    assert judged.r_q[row].item() == pytest.approx(outcome.r_q, abs=1e-3)
    assert (judged.r_q[judged.clean] > 9.9).all(), "the photograph itself is perfect"


def test_shards_can_be_read_again(tmp_path: Path) -> None:
    judged = ScoredImages(
        torch.randint(0, 256, (3, 3, 8, 8), dtype=torch.uint8),
        torch.tensor([[6.0, 3.0], [2.0, 1.5], [1.0, 1.0]]),
        torch.tensor([0, 0, 1]),
        torch.tensor([True, False, False]),
        (("noise", "jpeg"), ()),
    )
    judged.save(tmp_path / "a.npz")
    assert equal(ScoredImages.load(tmp_path / "a.npz"), judged)
    assert judged.r_q.tolist() == [9.0, 3.5, 2.0]
    twice = ScoredImages.join([judged, judged])
    assert twice.sample.tolist() == [0, 0, 1, 2, 2, 3] and twice.recipes == judged.recipes * 2


def test_what_is_collected(config: CollectConfig) -> None:
    judged = ScoredImages.join([ScoredImages.load(path) for path in collect(config)])
    assert judged.images.shape[1:] == (3, 64, 64) and judged.images.dtype == torch.uint8
    assert len(judged.recipes) == 6 and judged.clean.sum() == 6
    assert torch.equal(judged.sample.unique(), torch.arange(6)) and (judged.sample.diff() >= 0).all()
    assert set(judged.recipes) <= set(train_recipes())
    assert ((judged.r_q >= 0) & (judged.r_q <= 10)).all()
    assert len(judged.r_q) > 12, "several results of most samples"


def test_a_run_goes_on_with_the_shard_that_is_missing(
    config: CollectConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = collect(config)
    whole = [ScoredImages.load(path) for path in (first, second)]
    before = first.stat().st_mtime_ns
    second.unlink()
    collect(config)
    assert first.stat().st_mtime_ns == before
    assert equal(ScoredImages.load(second), whole[1]) and not equal(*whole)
    monkeypatch.setattr(collecting, "PlanScorer", None)
    assert collect(config) == [first, second], "nothing is left to do"


def test_other_settings_need_another_folder(
    config: CollectConfig, photos: Path, small_toolbox: Path
) -> None:
    collect(config)
    other = CollectConfig(
        photos, config.out, 2, samples=5, canvas=64, reward="classic", toolbox=str(small_toolbox)
    )
    with pytest.raises(AgentError, match="samples"):
        collect(other)
