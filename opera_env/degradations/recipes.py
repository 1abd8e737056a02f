"""Recipes, that is, orders of degradations: those of training and the groups of the benchmark."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import permutations, product

import numpy as np
from numpy.random import Generator

from opera_env.degradations.base import DegradationType
from opera_env.degradations.registry import DEGRADATION_CLASSES, Recipe
from opera_env.errors import SampleError


def training_recipes(
    max_length: int = 3, degradations: Iterable[DegradationType] = tuple(DEGRADATION_CLASSES.values())
) -> tuple[Recipe, ...]:
    """Lists all orders of distinct degradations that follow their stages: scene, lens, sensor.

    Degradations of one stage may have any order. With at most three of the built-in degradations these are
    the 145 combinations that the paper trains on.

    Args:
        max_length: Maximum number of degradations in a recipe.
        degradations: The degradations of the recipes; the eight built-in ones by default.

    Returns:
        The recipes, shorter ones first.

    Example:
        >>> len(training_recipes()), len(training_recipes(1))
        (145, 8)

    Source: section 5.1 gives the number and "likely to occur in practice". Departure: the rule is inferred,
        as the natural one that gives this number.
    """
    stages = {degradation.name: degradation.stage for degradation in degradations}
    return tuple(
        order
        for length in range(1, max_length + 1)
        for order in permutations(stages, length)
        if all(stages[a] <= stages[b] for a, b in zip(order, order[1:], strict=False))
    )


TRAINING_RECIPES: tuple[Recipe, ...] = training_recipes()
"""The 145 recipes of one to three built-in degradations."""

BENCHMARK_GROUPS: Mapping[str, tuple[Recipe, ...]] = {
    "A": (
        ("rain", "haze"),
        ("motion_blur", "low_resolution"),
        ("low_light", "noise"),
        ("defocus_blur", "jpeg"),
        ("noise", "jpeg"),
        ("rain", "low_resolution"),
        ("motion_blur", "low_light"),
        ("defocus_blur", "haze"),
    ),
    "B": (
        ("motion_blur", "jpeg"),
        ("haze", "noise"),
        ("defocus_blur", "low_resolution"),
        ("rain", "low_light"),
    ),
    "C": (
        ("haze", "motion_blur", "low_resolution"),
        ("rain", "noise", "low_resolution"),
        ("low_light", "defocus_blur", "jpeg"),
        ("motion_blur", "defocus_blur", "noise"),
    ),
}
"""The 16 combinations of the benchmark by group. Source: the public benchmark of AgenticIR."""

STUDY_RECIPES: tuple[Recipe, ...] = (
    ("rain", "noise"),
    ("rain", "haze"),
    ("haze", "noise"),
    ("rain", "defocus_blur"),
    ("haze", "defocus_blur"),
    ("defocus_blur", "noise"),
    ("rain", "haze", "noise"),
    ("rain", "haze", "defocus_blur"),
)
"""The combinations of the paper's empirical study. Departure: the paper does not say which of the two blurs
it means; defocus blur is assumed."""


RECIPE_SETS: Mapping[str, tuple[Recipe, ...]] = {
    **BENCHMARK_GROUPS,
    "benchmark": tuple(recipe for group in BENCHMARK_GROUPS.values() for recipe in group),
    "study": STUDY_RECIPES,
    "training": TRAINING_RECIPES,
}
"""Sets of recipes by the names that :func:`parse_recipes` accepts."""


def benchmark_group(recipe: Recipe) -> str | None:
    """Returns the group of the benchmark that has this recipe, in this order; None if no group has it."""
    return next((group for group, recipes in BENCHMARK_GROUPS.items() if recipe in recipes), None)


def benchmark_recipes() -> tuple[Recipe, ...]:
    """Lists the recipes of the benchmark, from A, B, C, A, B, C, ..., so that every prefix is balanced.

    B and C have half as many combinations as A, so theirs occur twice: 24 entries, 8 of every group, with
    all 16 combinations among them.
    """
    largest = max(len(recipes) for recipes in BENCHMARK_GROUPS.values())
    return tuple(
        recipes[index % len(recipes)]
        for index, recipes in product(range(largest), BENCHMARK_GROUPS.values())
    )


def parse_recipes(recipes: str | Iterable[str | Sequence[str]]) -> tuple[Recipe, ...]:
    """Reads recipes as users write them in settings and arguments.

    Args:
        recipes: Recipes, each a sequence of names, or names joined by "+", such as "rain+noise"; or sets of
            recipes: "A", "B" or "C" for a group of the benchmark, "benchmark" for all three, "study" for
            those of the paper's study, "training" for the 145 of training. A text may have several,
            separated by commas.

    Returns:
        The recipes, each once, in the order in which they are named. Names of degradations are not checked:
        the source knows which there are.

    Raises:
        SampleError: If there is no recipe, or something is neither a text nor a sequence of names.

    Example:
        >>> parse_recipes("rain+noise,jpeg"), len(parse_recipes("A,B"))
        ((('rain', 'noise'), ('jpeg',)), 12)
        >>> parse_recipes([("haze",), "low_light+noise"])
        (('haze',), ('low_light', 'noise'))
    """
    items = recipes.split(",") if isinstance(recipes, str) else recipes
    found: dict[Recipe, None] = {}
    for item in items if isinstance(items, Iterable) else [items]:
        names = [part.strip() for part in item.split("+")] if isinstance(item, str) else item
        if isinstance(item, str) and item.strip() in RECIPE_SETS:
            found |= dict.fromkeys(RECIPE_SETS[item.strip()])
        elif isinstance(names, list | tuple) and names and all(map(_is_identifier, names)):
            found[tuple(names)] = None
        else:
            raise SampleError(
                "expected recipes such as 'rain+noise', ('rain', 'noise') or one of "
                f"{', '.join(RECIPE_SETS)}, found {item!r}."
            )
    if not found:
        raise SampleError(f"expected at least one recipe, such as 'rain+noise', found {recipes!r}.")
    return tuple(found)


def _is_identifier(name: object) -> bool:
    return isinstance(name, str) and name.isidentifier()


def sample_recipe(
    rng: Generator,
    recipes: Sequence[Recipe] = TRAINING_RECIPES,
    length_weights: Mapping[int, float] | None = None,
) -> Recipe:
    """Draws a recipe: first its length, then one recipe of that length.

    Args:
        rng: The only source of randomness.
        recipes: The recipes to draw from.
        length_weights: Weight of each length; the paper's 1 : 3 : 5 by default, and equal weights if all
            recipes are longer than 3.

    Raises:
        SampleError: If there are no recipes, or no recipe has a length with a positive weight.
    """
    lengths = sorted({len(recipe) for recipe in recipes})
    if not lengths:
        raise SampleError(
            "expected at least one recipe to draw from, found none: add recipes to the source."
        )
    if length_weights is None:
        length_weights = dict.fromkeys(lengths, 1.0)
        if lengths[0] <= 3:  # longer ones like those of three: else they would never be drawn
            length_weights = dict.fromkeys(lengths, 5.0) | {0: 0.0, 1: 1.0, 2: 3.0}
    weights = np.array([length_weights.get(length, 0.0) for length in lengths])
    if weights.sum() <= 0:
        raise SampleError(
            f"no recipe has a length with a positive weight: the weights are {dict(length_weights)}, "
            f"the recipes have the lengths {lengths}: give one of these a positive weight."
        )
    length = lengths[rng.choice(len(lengths), p=weights / weights.sum())]
    candidates = [recipe for recipe in recipes if len(recipe) == length]
    return candidates[rng.integers(len(candidates))]
