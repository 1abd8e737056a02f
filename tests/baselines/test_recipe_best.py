"""Constant plans by recipe: look-up, fitting, and the shipped table."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from opera_baselines import fit_recipe_best
from opera_baselines.fit_recipe_best import FitConfig, fit, mean_plan_rewards, search_constant_plan
from opera_baselines.recipe_best import SHIPPED_PLANS, PlanTable, RecipeBest
from opera_env.agents import make_agent
from opera_env.degradations import BENCHMARK_GROUPS, Recipe
from opera_env.errors import (
    AgentError,
    MissingWeightsError,
    OutputError,
    RunError,
    SampleError,
    SettingError,
    ToolboxMismatchError,
    UnknownDegradationError,
)
from opera_env.runs import lock_path
from opera_env.scoring import PlanScorer
from opera_env.search import all_plans
from opera_env.tools import Toolbox
from opera_env.types import Outcome, Plan, Sample, SampleSpec

PLANS: dict[Recipe, Plan] = {
    ("noise",): ("tiny.blur", "tiny.blur"),
    ("defocus_blur", "jpeg"): ("tiny.blur", "tiny.identity", "tiny.darken"),
    ("noise", "jpeg"): ("tiny.blur",),
    ("jpeg", "noise"): ("tiny.identity",),
}


@pytest.fixture
def table(toolbox: Toolbox) -> PlanTable:
    identity = {"signature": toolbox.signature, "fingerprint": toolbox.fingerprint}
    scores = {recipe: {"untouched": 1.0, "matched": 2.0, "plan": 2.5} for recipe in PLANS}
    return PlanTable(identity, "classic", "by hand", 36, PLANS, scores)


@pytest.fixture
def scorer(toolbox: Toolbox) -> PlanScorer:
    return PlanScorer(toolbox, "classic")


def sample(recipe: Recipe, degradations: frozenset[str] | None) -> Sample:
    image = torch.zeros(3, 8, 8)
    return Sample(image, image, degradations, (8, 8), SampleSpec("by hand", 0, recipe))


def plan_of(table: PlanTable, recipe: Recipe, scorer: PlanScorer, max_tools: int = 6) -> Plan:
    agent = RecipeBest(scorer.toolbox, max_tools, table)
    return agent.search([sample(recipe, frozenset(recipe))], scorer)[0]


# ---- look-up -----------------------------------------------------------------------------------


def test_each_recipe_has_its_plan(table: PlanTable, scorer: PlanScorer) -> None:
    assert {recipe: plan_of(table, recipe, scorer) for recipe in PLANS} == PLANS


def test_plans_are_cut(table: PlanTable, scorer: PlanScorer) -> None:
    assert plan_of(table, ("defocus_blur", "jpeg"), scorer, max_tools=2) == ("tiny.blur", "tiny.identity")


def test_another_order_of_the_same_degradations_is_used_if_the_order_was_not_fitted(
    table: PlanTable, scorer: PlanScorer
) -> None:
    assert plan_of(table, ("jpeg", "defocus_blur"), scorer) == PLANS["defocus_blur", "jpeg"]
    assert plan_of(table, ("jpeg", "noise"), scorer) == ("tiny.identity",)


def test_clean_images_get_the_empty_plan(table: PlanTable, scorer: PlanScorer) -> None:
    assert plan_of(table, (), scorer) == ()


def test_unknown_degradations_raise(table: PlanTable, scorer: PlanScorer) -> None:
    with pytest.raises(SampleError, match=r"needs the degradations.*leave this agent out"):
        RecipeBest(scorer.toolbox, table=table).search([sample((), None)], scorer)


def test_error_for_a_missing_recipe_names_the_command_that_fits_it(
    table: PlanTable, scorer: PlanScorer
) -> None:
    for recipe in (("rain", "noise"), ("defocus_blur",)):
        with pytest.raises(SampleError, match=r"fit_recipe_best .*--recipes " + r"\+".join(recipe)):
            plan_of(table, recipe, scorer)


def test_degradations_without_any_fitted_plan_raise(table: PlanTable, scorer: PlanScorer) -> None:
    """A degradation of one's own is not in the table, and the fitting command does not know it."""
    assert RecipeBest(scorer.toolbox, table=table).degradations == ("defocus_blur", "noise", "jpeg")
    with pytest.raises(AgentError, match=r"knows plans for defocus_blur, noise, jpeg.*has fog"):
        plan_of(table, ("noise", "fog"), scorer)
    own_table = replace(table, plans={("fog",): ("tiny.darken",)})
    assert plan_of(own_table, ("fog",), scorer) == ("tiny.darken",)


def test_another_toolbox_raises(table: PlanTable, scorer: PlanScorer) -> None:
    other_toolbox = scorer.toolbox.subset(scorer.toolbox.names[1:])
    with pytest.raises(ToolboxMismatchError, match=r"fitted for the toolbox .* --toolbox FOLDER"):
        RecipeBest(other_toolbox, table=table).search([], scorer)


def test_changed_tool_weights_warn(
    table: PlanTable, scorer: PlanScorer, perturb_blur_weights: Callable[[Toolbox], None]
) -> None:
    perturb_blur_weights(scorer.toolbox)
    with pytest.warns(UserWarning, match="weights have changed"):
        assert plan_of(table, ("noise",), scorer) == PLANS["noise",]


def test_table_is_read_back_from_its_file(table: PlanTable, scorer: PlanScorer, tmp_path: Path) -> None:
    path = tmp_path / "plans.json"
    table.write(path)
    assert PlanTable.read(path) == table
    agent = make_agent(f"recipe_best:{path}", toolbox=scorer.toolbox)
    assert isinstance(agent, RecipeBest)
    assert agent.table == table
    assert json.loads(path.read_text())["plans"]["noise+jpeg"] == ["tiny.blur"]


def test_files_of_another_kind_raise(tmp_path: Path) -> None:
    path = tmp_path / "plans.json"
    with pytest.raises(MissingWeightsError, match="fit_recipe_best --images DIR"):
        PlanTable.read(path)
    for text in ("", "[]", "{}", '{"plans": [], "scores": {}}', '{"plans": {}, "scores": {}}'):
        path.write_text(text)
        with pytest.raises(AgentError, match=r"plans\.json: expected"):
            PlanTable.read(path)


# ---- fitting -----------------------------------------------------------------------------------


class FunctionScorer:
    """A scorer that takes R_q from a function of the sample and the plan."""

    tool_names = ("a", "b", "c")

    def __init__(self, reward: Callable[[Sample, Plan], float]) -> None:
        self.reward = reward
        self.calls: list[list[Plan]] = []

    def score(
        self, samples: Sequence[Sample], plans: Sequence[Plan], *, restored: bool = True
    ) -> list[Outcome]:
        self.calls.append(list(dict.fromkeys(plans)))
        return [
            Outcome(None, r_q=self.reward(scored_sample, plan), num_tools=len(plan))
            for scored_sample, plan in zip(samples, plans, strict=True)
        ]


def random_scorer(seed: int) -> FunctionScorer:
    """Returns a scorer with an independent random reward for each plan and sample."""

    def reward(scored_sample: Sample, plan: Plan) -> float:
        return float(
            np.random.default_rng((seed, scored_sample.spec.index, *map(ord, "".join(plan)))).random()
        )

    return FunctionScorer(reward)


def indexed_samples(count: int) -> list[Sample]:
    base_sample = sample((), None)
    return [replace(base_sample, spec=SampleSpec("by hand", index)) for index in range(count)]


def test_mean_plan_rewards_averages_over_samples() -> None:
    scorer = FunctionScorer(lambda scored_sample, plan: scored_sample.spec.index * len(plan))
    assert mean_plan_rewards(indexed_samples(3), [(), ("a",), ("a", "b")], scorer) == {
        (): 0,
        ("a",): 1,
        ("a", "b"): 2,
    }
    assert len(scorer.calls) == 1


@pytest.mark.parametrize("seed", range(5))
def test_wide_beam_equals_exhaustive_search(seed: int) -> None:
    """Rewards grow with the length, so the search never stops early."""
    noise = random_scorer(seed)
    growing = FunctionScorer(lambda scored_sample, plan: len(plan) + noise.reward(scored_sample, plan))
    tried = search_constant_plan(indexed_samples(2), growing, [], width=27, max_tools=3)
    expected = mean_plan_rewards(indexed_samples(2), all_plans("abc", 3), growing)
    assert tried == expected


@pytest.mark.parametrize("seed", range(10))
def test_initial_plans_are_scored_and_extended(seed: int) -> None:
    samples, starts = indexed_samples(2), [tuple("cab"), tuple("bca")]
    scorer = random_scorer(seed)
    tried = search_constant_plan(samples, scorer, starts, width=1, max_tools=4)
    for start, value in mean_plan_rewards(samples, starts, scorer).items():
        assert tried[start] == value
    assert {len(plan) for plan in tried} >= {1, 2, 3, 4}  # starts are extended, too
    assert all(len(plan) <= 4 for plan in tried)


def test_no_plan_is_scored_twice_and_each_length_is_one_call() -> None:
    scorer = random_scorer(0)
    search_constant_plan(indexed_samples(3), scorer, [tuple("ab"), ("a",)], width=2, max_tools=3)
    scored = [plan for call in scorer.calls for plan in call]
    assert len(scored) == len(set(scored))
    assert len(scorer.calls) <= 4
    assert scorer.calls[0] == [(), ("a", "b"), ("a",)]


def test_search_stops_when_longer_plans_are_no_better() -> None:
    scorer = FunctionScorer(lambda scored_sample, plan: -abs(len(plan) - 1))
    tried = search_constant_plan(indexed_samples(1), scorer, [], width=3, max_tools=5)
    assert max(map(len, tried)) == 2


@pytest.fixture
def config(photos: Path, tmp_path: Path) -> FitConfig:
    """Two tools of ``lite`` and one photograph per recipe."""
    Toolbox.load("lite").subset(["brighten.gamma_correction", "unet.dehaze"]).save(tmp_path / "box")
    return FitConfig(
        images=photos,
        out=tmp_path / "plans.json",
        toolbox=str(tmp_path / "box"),
        reward="classic",
        recipes=("low_light", "haze"),
        images_per_recipe=1,
        max_tools=2,
    )


def test_fitted_plans_are_no_worse_than_matched_tools(config: FitConfig) -> None:
    table = fit(config)
    assert table == PlanTable.read(config.out)
    assert set(table.plans) == {("low_light",), ("haze",)}
    for recipe, row in table.scores.items():
        assert row["plan"] >= max(row["matched"], row["untouched"])
        assert table.plans[recipe]
    scorer = PlanScorer(Toolbox.load(config.toolbox), "classic")
    assert plan_of(table, ("haze",), scorer) == table.plans["haze",]


def test_resumed_run_equals_uninterrupted_run(config: FitConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recipes in the file are not fitted again, and no recipe depends on the ones before it."""
    whole = fit(config)
    config.out.unlink()
    fit(replace(config, recipes=("haze",)))
    fitted: list[Recipe] = []
    original = fit_recipe_best.fit_recipe

    def spy(recipe: Recipe, config: FitConfig, scorer: PlanScorer) -> tuple[Plan, dict[str, float]]:
        fitted.append(recipe)
        return original(recipe, config, scorer)

    monkeypatch.setattr(fit_recipe_best, "fit_recipe", spy)
    assert fit(config) == whole
    assert fitted == [("low_light",)]


def test_plans_of_other_settings_are_not_overwritten(config: FitConfig) -> None:
    fit(config)
    before = config.out.read_text()
    for other_config in (
        replace(config, seed=1),
        replace(config, reward="label_free"),
        replace(config, beam_width=1),
    ):
        with pytest.raises(OutputError, match=r"fitted with other settings.*another --out"):
            fit(other_config)
    assert config.out.read_text() == before


def test_only_settings_that_differ_are_named(config: FitConfig, tmp_path: Path) -> None:
    """Photographs and toolbox are compared by content, wherever they lie."""
    fit(config)
    moved_images = Path(shutil.copytree(config.images, tmp_path / "moved"))
    moved_toolbox = shutil.copytree(config.toolbox, tmp_path / "moved_toolbox")
    moved_config = replace(config, images=moved_images, toolbox=str(moved_toolbox))
    assert fit(moved_config).plans == PlanTable.read(config.out).plans
    next(moved_images.iterdir()).rename(moved_images / "other.png")
    with pytest.raises(OutputError) as raised:
        fit(replace(moved_config, seed=1))
    message = str(raised.value)
    assert "--seed '0', now '1'" in message and "/moved (content " in message
    assert "--toolbox" not in message and "--reward" not in message


def test_a_table_without_content_is_compared_by_the_name_of_its_photographs(config: FitConfig) -> None:
    table = replace(fit(config), content="")
    table.write(config.out)
    assert fit(config).plans == table.plans
    with pytest.raises(OutputError, match="--seed"):
        fit(replace(config, seed=1))


def test_two_processes_do_not_fit_one_file(config: FitConfig) -> None:
    lock = config.out.with_name(".plans.json.lock")
    with lock_path(lock, "busy"), pytest.raises(RunError, match=r"is fitting .*plans\.json: wait"):
        fit(config)


def test_unknown_recipes_and_too_few_photographs_raise(config: FitConfig) -> None:
    with pytest.raises(UnknownDegradationError, match="'snow'"):
        fit(replace(config, recipes=("rain+snow",)))
    with pytest.raises(SampleError, match="3 photographs, --images-per-recipe 2 needs 6"):
        fit(replace(config, images_per_recipe=2))
    with pytest.raises(SettingError, match="--images-per-recipe 0"):
        replace(config, images_per_recipe=0)
    assert not config.out.exists() and not config.out.parent.joinpath(".plans.json.lock").exists()


def test_command_has_no_absolute_paths(config: FitConfig) -> None:
    command = config.command()
    assert str(config.images.parent) not in command and str(config.out) not in command
    assert f"--images {config.images.parent.name}/{config.images.name} --toolbox box" in command


# ---- shipped table -----------------------------------------------------------------------------


def test_shipped_plans_cover_the_benchmark_for_lite() -> None:
    table, toolbox = PlanTable.read(SHIPPED_PLANS), Toolbox.load("lite")
    assert set(table.plans) == {recipe for group in BENCHMARK_GROUPS.values() for recipe in group}
    assert table.toolbox == {"signature": toolbox.signature, "fingerprint": toolbox.fingerprint}
    assert all(name in toolbox for plan in table.plans.values() for name in plan)
    assert "--images bsds500/train " in table.command
    assert set(table.scores) == set(table.plans)
    assert all(row["plan"] >= row["matched"] for row in table.scores.values())
