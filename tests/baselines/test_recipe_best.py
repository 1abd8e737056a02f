"""Constant plans: how they are looked up, how they are fitted, and what the shipped ones promise."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from opera_baselines import fit_recipe_best
from opera_baselines.fit_recipe_best import FitConfig, fit, mean_plan_rewards, search_constant_plan
from opera_baselines.recipe_best import TABLE, PlanTable, RecipeBest
from opera_env.degradations import BENCHMARK_GROUPS, Recipe
from opera_env.errors import (
    MissingWeightsError,
    OutputError,
    SampleError,
    ToolboxMismatchError,
    UnknownDegradationError,
    WeightsIntegrityError,
)
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


def played(table: PlanTable, recipe: Recipe, scorer: PlanScorer, max_tools: int = 6) -> Plan:
    agent = RecipeBest(scorer.toolbox, max_tools, table)
    return agent.search([sample(recipe, frozenset(recipe))], scorer)[0]


# ---- looking up --------------------------------------------------------------------------------


def test_each_recipe_has_its_plan(table: PlanTable, scorer: PlanScorer) -> None:
    assert {recipe: played(table, recipe, scorer) for recipe in PLANS} == PLANS


def test_plans_are_cut(table: PlanTable, scorer: PlanScorer) -> None:
    assert played(table, ("defocus_blur", "jpeg"), scorer, max_tools=2) == ("tiny.blur", "tiny.identity")


def test_another_order_will_do(table: PlanTable, scorer: PlanScorer) -> None:
    """Where the order itself was not fitted; where it was, it counts."""
    assert played(table, ("jpeg", "defocus_blur"), scorer) == PLANS["defocus_blur", "jpeg"]
    assert played(table, ("jpeg", "noise"), scorer) == ("tiny.identity",)


def test_a_clean_image_is_left_alone(table: PlanTable, scorer: PlanScorer) -> None:
    assert played(table, (), scorer) == ()


def test_who_is_not_told_says_so(table: PlanTable, scorer: PlanScorer) -> None:
    with pytest.raises(SampleError, match=r"must be told.*leave this agent out"):
        RecipeBest(scorer.toolbox, table=table).search([sample((), None)], scorer)


def test_a_recipe_without_plan_names_what_fits_one(table: PlanTable, scorer: PlanScorer) -> None:
    for recipe in (("rain", "noise"), ("defocus_blur",)):
        with pytest.raises(SampleError, match=r"fit_recipe_best .*--recipes " + r"\+".join(recipe)):
            played(table, recipe, scorer)


def test_other_tools_are_a_mismatch(table: PlanTable, scorer: PlanScorer) -> None:
    other = scorer.toolbox.subset(scorer.toolbox.names[1:])
    with pytest.raises(ToolboxMismatchError, match=r"fitted for the toolbox .* --toolbox FOLDER"):
        RecipeBest(other, table=table).search([], scorer)


def test_other_weights_are_a_warning(
    table: PlanTable, scorer: PlanScorer, perturb_blur_weights: Callable[[Toolbox], None]
) -> None:
    perturb_blur_weights(scorer.toolbox)
    with pytest.warns(UserWarning, match="weights have changed"):
        assert played(table, ("noise",), scorer) == PLANS["noise",]


def test_a_table_comes_back_from_its_file(table: PlanTable, scorer: PlanScorer, tmp_path: Path) -> None:
    path = tmp_path / "plans.json"
    table.write(path)
    assert PlanTable.read(path) == table
    assert RecipeBest(scorer.toolbox, table=path).table == table
    assert json.loads(path.read_text())["plans"]["noise+jpeg"] == ["tiny.blur"]


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "plans.json"
    with pytest.raises(MissingWeightsError, match="fit_recipe_best --images DIR"):
        PlanTable.read(path)
    for text in ("", "[]", "{}", '{"plans": [], "scores": {}}', '{"plans": {}, "scores": {}}'):
        path.write_text(text)
        with pytest.raises(WeightsIntegrityError, match="plans by recipe"):
            PlanTable.read(path)


# ---- fitting -----------------------------------------------------------------------------------


class ByHand:
    """A scorer whose figures are written down: what each letter adds where it stands."""

    tool_names = ("a", "b", "c")

    def __init__(self, worth: Callable[[Sample, Plan], float]) -> None:
        self.worth = worth
        self.calls: list[list[Plan]] = []

    def score(
        self, samples: Sequence[Sample], plans: Sequence[Plan], *, restored: bool = True
    ) -> list[Outcome]:
        self.calls.append(list(dict.fromkeys(plans)))
        return [
            Outcome(None, r_q=self.worth(one, plan), tools_run=len(plan))
            for one, plan in zip(samples, plans, strict=True)
        ]


def noisy(seed: int) -> ByHand:
    """Every plan has a value of its own on every image."""

    def worth(one: Sample, plan: Plan) -> float:
        return float(np.random.default_rng((seed, one.spec.index, *map(ord, "".join(plan)))).random())

    return ByHand(worth)


def numbered(count: int) -> list[Sample]:
    one = sample((), None)
    return [replace(one, spec=SampleSpec("by hand", index)) for index in range(count)]


def test_the_value_of_a_plan_is_its_mean() -> None:
    scorer = ByHand(lambda one, plan: one.spec.index * len(plan))
    assert mean_plan_rewards(numbered(3), [(), ("a",), ("a", "b")], scorer) == {
        (): 0,
        ("a",): 1,
        ("a", "b"): 2,
    }
    assert len(scorer.calls) == 1


@pytest.mark.parametrize("seed", range(5))
def test_a_wide_search_is_exhaustive(seed: int) -> None:
    """As long as longer plans are better, nothing is left out."""
    noise = noisy(seed)
    growing = ByHand(lambda one, plan: len(plan) + noise.worth(one, plan))
    tried = search_constant_plan(numbered(2), growing, [], width=27, max_tools=3)
    expected = mean_plan_rewards(numbered(2), all_plans("abc", 3), growing)
    assert tried == expected


@pytest.mark.parametrize("seed", range(10))
def test_never_worse_than_a_start(seed: int) -> None:
    samples, starts = numbered(2), [tuple("cab"), tuple("bca")]
    scorer = noisy(seed)
    tried = search_constant_plan(samples, scorer, starts, width=1, max_tools=4)
    for start, value in mean_plan_rewards(samples, starts, scorer).items():
        assert tried[start] == value
    assert {len(plan) for plan in tried} >= {1, 2, 3, 4}  # starts are extended, too
    assert all(len(plan) <= 4 for plan in tried)


def test_no_plan_is_scored_twice_and_a_level_is_one_call() -> None:
    scorer = noisy(0)
    search_constant_plan(numbered(3), scorer, [tuple("ab"), ("a",)], width=2, max_tools=3)
    asked = [plan for call in scorer.calls for plan in call]
    assert len(asked) == len(set(asked))
    assert len(scorer.calls) <= 4
    assert scorer.calls[0] == [(), ("a", "b"), ("a",)]


def test_it_stops_where_nothing_is_earned() -> None:
    scorer = ByHand(lambda one, plan: -abs(len(plan) - 1))
    tried = search_constant_plan(numbered(1), scorer, [], width=3, max_tools=5)
    assert max(map(len, tried)) == 2


@pytest.fixture
def config(photos: Path, tmp_path: Path) -> FitConfig:
    """Fits two tools of ``lite`` on the few photographs there are."""
    Toolbox.load("lite").subset(["brighten.gamma_correction", "unet.dehaze"]).save(tmp_path / "box")
    return FitConfig(
        images=photos,
        out=tmp_path / "plans.json",
        toolbox=str(tmp_path / "box"),
        reward="classic",
        recipes=("low_light", "haze"),
        per_recipe=1,
        max_tools=2,
    )


def test_fitted_plans_are_no_worse_than_matched(config: FitConfig) -> None:
    table = fit(config)
    assert table == PlanTable.read(config.out)
    assert set(table.plans) == {("low_light",), ("haze",)}
    for recipe, row in table.scores.items():
        assert row["plan"] >= max(row["matched"], row["untouched"])
        assert table.plans[recipe]
    scorer = PlanScorer(Toolbox.load(config.toolbox), "classic")
    assert played(table, ("haze",), scorer) == table.plans["haze",]


def test_it_goes_on_where_it_stopped(config: FitConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recipes in the file are not fitted again, and no recipe depends on those before it."""
    whole = fit(config)
    config.out.unlink()
    fit(replace(config, recipes=("haze",)))
    asked: list[Recipe] = []
    original = fit_recipe_best.fit_recipe

    def spy(recipe: Recipe, config: FitConfig, scorer: PlanScorer) -> tuple[Plan, dict[str, float]]:
        asked.append(recipe)
        return original(recipe, config, scorer)

    monkeypatch.setattr(fit_recipe_best, "fit_recipe", spy)
    assert fit(config) == whole
    assert asked == [("low_light",)]


def test_what_was_fitted_otherwise_is_not_replaced(config: FitConfig) -> None:
    fit(config)
    before = config.out.read_text()
    for other in (replace(config, seed=1), replace(config, reward="label_free"), replace(config, width=1)):
        with pytest.raises(OutputError, match=r"fitted otherwise.*another --out"):
            fit(other)
    assert config.out.read_text() == before


def test_what_cannot_be_fitted_is_said(config: FitConfig) -> None:
    with pytest.raises(UnknownDegradationError, match="'snow'"):
        fit(replace(config, recipes=("rain+snow",)))
    for per_recipe in (0, 2):
        with pytest.raises(SampleError, match=f"3 photographs, --per-recipe {per_recipe} needs"):
            fit(replace(config, per_recipe=per_recipe))


def test_the_command_names_no_place_on_this_machine(config: FitConfig) -> None:
    command = config.command()
    assert str(config.images.parent) not in command and str(config.out) not in command
    assert f"--images {config.images.parent.name}/{config.images.name} --toolbox box" in command


# ---- what is shipped ---------------------------------------------------------------------------


def test_the_shipped_plans_are_for_the_benchmark_and_lite() -> None:
    table, toolbox = PlanTable.read(TABLE), Toolbox.load("lite")
    assert set(table.plans) == {recipe for group in BENCHMARK_GROUPS.values() for recipe in group}
    assert table.toolbox == {"signature": toolbox.signature, "fingerprint": toolbox.fingerprint}
    assert all(name in toolbox for plan in table.plans.values() for name in plan)
    assert "--images bsds500/train " in table.command
    assert set(table.scores) == set(table.plans)
    assert all(row["plan"] >= row["matched"] for row in table.scores.values())
