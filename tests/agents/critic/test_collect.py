"""Collecting training data: results equal the scorer's, shards are resumed, other settings are refused."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from opera_agents.critic import collect as collect_module
from opera_agents.critic.collect import CollectConfig, collect, score_plans
from opera_agents.critic.dataset import ScoredImages
from opera_agents.critic.recipes import train_recipes
from opera_env.errors import RunError, SampleError
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import Plan, Sample


@pytest.fixture
def config(photos: Path, small_toolbox: Path, tmp_path: Path) -> CollectConfig:
    return CollectConfig(
        (photos,), tmp_path / "data", 2, samples=3, canvas=64, reward="classic", toolbox=str(small_toolbox)
    )


def equal(a: ScoredImages, b: ScoredImages) -> bool:
    return a.recipes == b.recipes and all(
        torch.equal(getattr(a, name), getattr(b, name))
        for name in ("images", "terms", "sample_index", "is_reference")
    )


def test_results_equal_the_scorers(toolbox: Toolbox, samples: list[Sample]) -> None:
    plans = [[(), ("tiny.blur",)], [()], [("tiny.brighten", "tiny.blur")], [()]]
    scorer = PlanScorer(toolbox, "classic")
    scored_images = ScoredImages.concat(list(score_plans(scorer, samples, plans)))
    assert scored_images.sample_index.tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 3]
    assert scored_images.is_reference.tolist() == [
        True,
        False,
        False,
        True,
        False,
        True,
        False,
        True,
        False,
    ]
    assert scored_images.recipes == tuple(sample.spec.recipe for sample in samples)
    row = 2
    (outcome,) = PlanScorer(toolbox, "classic").score([samples[0]], [("tiny.blur",)])
    assert outcome.restored is not None and torch.equal(scored_images.images[row], outcome.restored)
    assert scored_images.r_q[row].item() == pytest.approx(outcome.r_q, abs=1e-3)
    assert (scored_images.r_q[scored_images.is_reference] > 9.9).all(), "the reference is perfect"


def test_collected_data(config: CollectConfig) -> None:
    scored_images = ScoredImages.concat([ScoredImages.load(path) for path in collect(config)])
    assert scored_images.images.shape[1:] == (3, 64, 64) and scored_images.images.dtype == torch.uint8
    assert len(scored_images.recipes) == 6 and scored_images.is_reference.sum() == 6
    assert (
        torch.equal(scored_images.sample_index.unique(), torch.arange(6))
        and (scored_images.sample_index.diff() >= 0).all()
    )
    assert set(scored_images.recipes) <= set(train_recipes())
    assert ((scored_images.r_q >= 0) & (scored_images.r_q <= 10)).all()
    assert len(scored_images.r_q) > 12, "several results of most samples"


def test_data_with_own_degradations(config: CollectConfig) -> None:
    custom_degradations = "tests.degradations.own:OWN_DEGRADATIONS"
    paths = collect(replace(config, degradations=custom_degradations, samples=8, enlarged_fraction=0.5))
    recipes = {recipe for path in paths for recipe in ScoredImages.load(path).recipes}
    assert {"vignette", "salt_and_pepper"} <= {name for recipe in recipes for name in recipe}
    with pytest.raises(RunError, match="degradations"):
        collect(config)


def test_data_of_several_folders(
    config: CollectConfig, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Path(shutil.copytree(photos, tmp_path / "other" / "photos"))
    drawn: set[str] = set()

    def record(
        scorer: PlanScorer, samples: list[Sample], plans: list[list[Plan]]
    ) -> Iterator[ScoredImages]:
        drawn.update(sample.spec.image for sample in samples)
        return score_plans(scorer, samples[:1], plans[:1])

    monkeypatch.setattr(collect_module, "score_plans", record)
    collect(replace(config, images=(photos, other), shards=1, samples=30, enlarged_fraction=0.5))
    folders = {f"{folder.parent.name}/{folder.name}" for folder in (photos, other)}
    assert {name.rpartition("/")[0] for name in drawn} == folders | {f"{f}/enlarged" for f in folders}
    with pytest.raises(SampleError, match=r"1\.png: .* at least 80 pixels"):
        collect(replace(config, canvas=80, out=tmp_path / "large"))
    assert not (tmp_path / "large").exists()


def test_only_missing_shards_are_collected(config: CollectConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = collect(config)
    whole = [ScoredImages.load(path) for path in (first, second)]
    before = first.stat().st_mtime_ns
    second.unlink()
    collect(config)
    assert first.stat().st_mtime_ns == before
    assert equal(ScoredImages.load(second), whole[1]) and not equal(*whole)
    monkeypatch.setattr(collect_module, "PlanScorer", None)
    assert collect(config) == [first, second], "no shard is missing"


def test_other_settings_raise(config: CollectConfig, photos: Path, small_toolbox: Path) -> None:
    collect(config)
    other_config = CollectConfig(
        (photos,), config.out, 2, samples=5, canvas=64, reward="classic", toolbox=str(small_toolbox)
    )
    with pytest.raises(RunError, match="samples"):
        collect(other_config)
