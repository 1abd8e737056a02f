"""The table of rewards: equal to the scorer's, resumed shard by shard, refused with other settings."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from opera_agents.common.photographs import training_source
from opera_agents.planner import reward_table
from opera_agents.planner.reward_table import RewardTable, RewardTableConfig, collect, table_recipes
from opera_env.data import clean_folder
from opera_env.degradations import benchmark_recipes, training_recipes
from opera_env.errors import RunError, SampleError, SettingError
from opera_env.plan import PlanCodec
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from tests.agents.planner.conftest import ConfigureTable


@pytest.fixture
def config(configure_table: ConfigureTable) -> RewardTableConfig:
    return configure_table()


def test_rewards_equal_the_scorers(config: RewardTableConfig, photos: Path) -> None:
    table = RewardTable.concat([RewardTable.load(path) for path in collect(config)])
    assert table.plans.shape == (6, 5, 3)
    assert table.r_q.shape == (6, 5)
    toolbox = Toolbox.load(config.toolbox)
    source, codec = clean_folder(photos, 64), PlanCodec(toolbox.names, 3)
    samples = [source.make(spec) for spec in table.specs]
    for column in (0, 3):
        plans = [codec.decode(plan.astype(np.int64)) for plan in table.plans[:, column]]
        outcomes = PlanScorer(toolbox, "classic").score(samples, plans, restored=False)
        assert table.r_q[:, column] == pytest.approx([outcome.r_q for outcome in outcomes], abs=1e-3)
    assert (table.plans[:, 0] == 0).all(), "the first candidate is the empty plan"


def test_refined_candidates_are_edits_of_the_best_others(config: RewardTableConfig) -> None:
    config = replace(config, candidates=9, refined=6, max_tools=4)
    table = RewardTable.concat([RewardTable.load(path) for path in collect(config)])
    for plans in table.plans:
        rows = [tuple(plan) for plan in plans]
        assert len(set(rows[:3])) == 3
        assert not set(rows[3:]) - {rows[0]} & set(rows[1:3])
    better = (table.r_q[:, 3:].max(1) > table.r_q[:, :3].max(1)).mean()
    assert better > 0.3
    with pytest.raises(SettingError, match="fewer than all 9"):
        replace(config, refined=9)


def test_an_interrupted_run_resumes_with_the_missing_shard(
    config: RewardTableConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = collect(config)
    expected = RewardTable.load(paths[1])
    paths[1].unlink()
    scored: list[int] = []
    original = reward_table.collect_shard

    def record(*args: object) -> RewardTable:
        scored.append(1)
        return original(*args)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(reward_table, "collect_shard", record)
    again = RewardTable.load(collect(config)[1])
    assert scored == [1]
    assert again.specs == expected.specs
    assert np.array_equal(again.plans, expected.plans)
    assert np.array_equal(again.r_q, expected.r_q)


def test_a_table_of_several_folders_is_made_again_from_them(
    config: RewardTableConfig, photos: Path, tmp_path: Path
) -> None:
    folders = (photos, Path(shutil.copytree(photos, tmp_path / "other" / "photos")))
    config = replace(config, images=folders, samples=6, candidates=2, refined=0)
    table = RewardTable.concat([RewardTable.load(path) for path in collect(config)])
    assert len({spec.image.rsplit("/", 1)[0] for spec in table.specs}) == 2
    source = training_source(folders, 64)
    assert [source.make(spec).spec for spec in table.specs] == list(table.specs)
    with pytest.raises(RunError, match="images"):
        collect(replace(config, images=folders[:1]))


def test_photographs_that_are_too_small_are_refused_before_anything_is_written(
    config: RewardTableConfig,
) -> None:
    with pytest.raises(SampleError, match=r"1\.png: .* at least 80 pixels"):
        collect(replace(config, canvas=80))
    assert not config.out.exists()


def test_other_settings_are_refused(config: RewardTableConfig) -> None:
    collect(replace(config, shards=1))
    with pytest.raises(RunError, match="candidates"):
        collect(replace(config, shards=1, candidates=6))


def test_recipes_are_those_of_training_and_of_the_benchmark(config: RewardTableConfig) -> None:
    recipes = table_recipes(config)
    assert len(recipes) == len(set(recipes)) == 147
    assert set(recipes) == {*training_recipes(), *benchmark_recipes()}
    assert len(table_recipes(replace(config, benchmark=False))) == 145


@pytest.mark.slow
def test_a_table_from_a_cluster_is_that_of_one_process(config: RewardTableConfig, tmp_path: Path) -> None:
    ours = collect(config)
    theirs = collect(replace(config, out=tmp_path / "cluster", ray="local", ray_workers=2))
    for one, other in zip(map(RewardTable.load, ours), map(RewardTable.load, theirs), strict=True):
        assert one.content == other.content
