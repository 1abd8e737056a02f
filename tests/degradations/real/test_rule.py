"""The rule by which real degradations occur together: its frequencies and its order."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from numpy.random import default_rng

from opera_env.degradations.real import (
    REAL_LABELS,
    REAL_RECIPES,
    SITUATIONS,
    draw_recipe,
    list_recipes,
)


def test_probabilities_are_a_distribution_with_a_third_of_nothing_to_do() -> None:
    assert sum(REAL_RECIPES.values()) == pytest.approx(1)
    assert min(REAL_RECIPES.values()) > 0
    assert REAL_RECIPES[()] == pytest.approx(1 / 3)
    assert sum(situation.weight for situation in SITUATIONS) == pytest.approx(1)


def test_degradations_are_applied_from_the_scene_to_the_web() -> None:
    assert all(list(recipe) == sorted(recipe, key=REAL_LABELS.index) for recipe in REAL_RECIPES)
    assert max(len(recipe) for recipe in REAL_RECIPES) == 4
    assert {name for recipe in REAL_RECIPES for name in recipe} == set(REAL_LABELS)


def test_every_label_occurs_often_enough_to_be_learned() -> None:
    share = {
        label: sum(p for recipe, p in REAL_RECIPES.items() if label in recipe) for label in REAL_LABELS
    }
    assert all(0.05 < value < 0.35 for value in share.values()), share
    assert all(REAL_RECIPES[(label,)] > 0.01 for label in REAL_LABELS)


def test_what_belongs_together_occurs_together() -> None:
    def probability(*labels: str) -> float:
        return sum(p for recipe, p in REAL_RECIPES.items() if set(labels) <= set(recipe))

    assert probability("low_light", "noise") > 2 * probability("low_light") * probability("noise")
    assert probability("low_resolution", "jpeg") > 2 * probability("low_resolution") * probability("jpeg")
    assert probability("haze", "motion_blur") == 0


def test_drawn_recipes_have_the_probabilities_of_the_rule() -> None:
    rng, count = default_rng(0), 6000
    drawn = Counter(draw_recipe(rng) for _ in range(count))
    assert set(drawn) <= set(REAL_RECIPES)
    for recipe, p in REAL_RECIPES.items():
        assert abs(drawn[recipe] / count - p) < 5 * np.sqrt(p * (1 - p) / count), recipe


@pytest.mark.parametrize("count", [0, 1, 7, 200])
def test_listed_recipes_represent_the_rule(count: int) -> None:
    listed = list_recipes(count, default_rng(1))
    assert listed == list_recipes(count, default_rng(1)) and len(listed) == count
    found = Counter(listed)
    assert all(abs(found[recipe] - p * count) < 1 for recipe, p in REAL_RECIPES.items())


def test_listed_recipes_are_in_random_order() -> None:
    nothing = [index for index, recipe in enumerate(list_recipes(200, default_rng(2))) if not recipe]
    assert abs(np.mean(nothing) - 99.5) < 25
