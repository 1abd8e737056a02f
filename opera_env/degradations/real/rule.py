"""The rule by which degradations of real photographs occur together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType

import numpy as np
from numpy.random import Generator

from opera_env.degradations.registry import Recipe

REAL_LABELS: Recipe = (
    "haze",
    "rain",
    "defocus_blur",
    "motion_blur",
    "low_light",
    "noise",
    "over_processed",
    "low_resolution",
    "jpeg",
)
"""Labels in the order of application: scene, lens, sensor, processing in the camera, web."""

MAX_LENGTH = 4
"""Largest number of degradations in one photograph; rarer combinations are left out."""

NOTHING_TO_DO = 1 / 3
"""Fraction of photographs without any degradation."""


@dataclass(frozen=True)
class Situation:
    """A situation in which damaged photographs are taken or made.

    Attributes:
        name: What happened.
        weight: Fraction of the damaged photographs.
        certain: Degradations that always occur.
        possible: Probability of each other degradation, which are independent.
    """

    name: str
    weight: float
    certain: tuple[str, ...]
    possible: Mapping[str, float]


SITUATIONS: tuple[Situation, ...] = (
    Situation(
        "little light",
        0.24,
        ("low_light",),
        {"noise": 0.6, "motion_blur": 0.15, "defocus_blur": 0.05, "over_processed": 0.1, "jpeg": 0.25},
    ),
    Situation(
        "high sensitivity", 0.11, ("noise",), {"over_processed": 0.25, "motion_blur": 0.15, "jpeg": 0.35}
    ),
    Situation("haze", 0.13, ("haze",), {"noise": 0.15, "low_resolution": 0.1, "jpeg": 0.35}),
    Situation("rain", 0.12, ("rain",), {"haze": 0.3, "low_light": 0.2, "noise": 0.15, "jpeg": 0.25}),
    Situation("missed focus", 0.09, ("defocus_blur",), {"noise": 0.2, "low_light": 0.1, "jpeg": 0.3}),
    Situation("shaken camera", 0.09, ("motion_blur",), {"noise": 0.25, "low_light": 0.2, "jpeg": 0.3}),
    Situation("telephone", 0.06, ("over_processed",), {"noise": 0.3, "low_resolution": 0.1, "jpeg": 0.5}),
    Situation("web", 0.11, ("jpeg",), {"low_resolution": 0.35, "over_processed": 0.1}),
    Situation("enlargement", 0.05, ("low_resolution",), {"jpeg": 0.4}),
)
"""The situations; their weights sum to 1."""


def _probabilities() -> Mapping[Recipe, float]:
    found: dict[Recipe, float] = {}
    for situation in SITUATIONS:
        for choice in product((False, True), repeat=len(situation.possible)):
            names = {*situation.certain}
            probability = situation.weight
            for (name, chance), occurs in zip(situation.possible.items(), choice, strict=True):
                probability *= chance if occurs else 1 - chance
                names |= {name} if occurs else set()
            if len(names) <= MAX_LENGTH:
                recipe = tuple(name for name in REAL_LABELS if name in names)
                found[recipe] = found.get(recipe, 0.0) + probability
    total = sum(found.values())
    damaged = {recipe: (1 - NOTHING_TO_DO) * found[recipe] / total for recipe in sorted(found)}
    return MappingProxyType({(): NOTHING_TO_DO} | damaged)


REAL_RECIPES: Mapping[Recipe, float] = _probabilities()
"""Probability of each recipe; ``()`` is nothing to do."""


def draw_recipe(rng: Generator, recipes: Mapping[Recipe, float] = REAL_RECIPES) -> Recipe:
    """Draws a recipe by its probability; ``rng`` is the only source of randomness."""
    return _pick(recipes, np.array([rng.random()]))[0]


def list_recipes(
    count: int, rng: Generator, recipes: Mapping[Recipe, float] = REAL_RECIPES
) -> list[Recipe]:
    """Lists recipes in random order, each about as often as its probability says.

    The numbers of recipes differ from ``count`` times their probabilities by less than 1, as in systematic
    sampling, so that small sets of samples represent the rule too.

    Args:
        count: Number of recipes.
        rng: The only source of randomness.
        recipes: Probability of each recipe.
    """
    return _pick(recipes, rng.permutation((np.arange(count) + rng.random()) / max(count, 1)))


def _pick(recipes: Mapping[Recipe, float], positions: np.ndarray) -> list[Recipe]:
    """Returns the recipes at positions in [0, 1) of the cumulative distribution."""
    names: Sequence[Recipe] = list(recipes)
    ends = np.cumsum(list(recipes.values()))
    indices = np.searchsorted(ends / ends[-1], positions, side="right")
    return [names[int(index)] for index in np.minimum(indices, len(names) - 1)]
