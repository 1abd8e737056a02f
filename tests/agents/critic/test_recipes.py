"""The recipes that critics are trained on, and those that are held out."""

from __future__ import annotations

from opera_agents.critic.recipes import held_out_recipes, train_recipes
from opera_env.degradations import TRAINING_RECIPES, benchmark_recipes
from tests.degradations.own import OWN_DEGRADATIONS


def test_combinations_are_held_out_in_all_orders() -> None:
    held_out, trained = held_out_recipes(), train_recipes()
    assert set(trained) == {*TRAINING_RECIPES, ()} - set(held_out)
    assert not {frozenset(recipe) for recipe in held_out} & {frozenset(recipe) for recipe in trained}
    held_out_of_training = [recipe for recipe in TRAINING_RECIPES if recipe in held_out]
    assert 0.12 <= len(held_out_of_training) / len(TRAINING_RECIPES) <= 0.2
    assert len({*held_out} & {*benchmark_recipes()}) >= 3
    assert {*benchmark_recipes()} & {*trained}, "some of the benchmark's recipes are trained on"
    assert min(map(len, held_out)) > 1, "no single degradation is held out"
    assert held_out == held_out_recipes()


def test_own_degradations_are_trained_on_and_held_out() -> None:
    held_out = held_out_recipes(degradations=OWN_DEGRADATIONS)
    trained = train_recipes(OWN_DEGRADATIONS)
    assert ("vignette",) in trained and ("salt_and_pepper",) in trained
    assert any("vignette" in recipe for recipe in held_out)
    assert not {frozenset(recipe) for recipe in held_out} & {frozenset(recipe) for recipe in trained}
    assert 0.12 <= len(held_out) / (len(held_out) + len(trained)) <= 0.2
