"""The recipes that critics are trained on, and those that are held out."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from opera_env.degradations import (
    BENCHMARK_GROUPS,
    DegradationType,
    Recipe,
    benchmark_recipes,
    merge_degradations,
    training_recipes,
)


def held_out_recipes(seed: int = 0, degradations: Iterable[DegradationType] = ()) -> tuple[Recipe, ...]:
    """Lists the recipes that no critic is trained on: some of the benchmark's and some others.

    A combination of degradations is held out in all orders, because another order would make it known.
    About 15 % of the training recipes are held out; single degradations are not.

    Args:
        seed: Seed of the choice.
        degradations: Custom degradations beside the built-in ones.
    """
    plausible = training_recipes(degradations=merge_degradations(degradations).values())
    benchmark = {frozenset(recipe) for recipe in benchmark_recipes()}
    combinations = sorted({tuple(sorted(recipe)) for recipe in plausible if len(recipe) > 1})
    order = np.random.default_rng(seed).permutation(len(combinations))
    shuffled = [frozenset(combinations[index]) for index in order]
    held_out = [names for names in shuffled if names in benchmark][:4]
    for names in (names for names in shuffled if names not in benchmark):
        num_held_out = sum(frozenset(recipe) in held_out for recipe in plausible)
        if num_held_out >= 0.15 * len(plausible):
            break
        held_out.append(names)
    all_recipes = dict.fromkeys(
        [*plausible, *(recipe for group in BENCHMARK_GROUPS.values() for recipe in group)]
    )
    return tuple(recipe for recipe in all_recipes if frozenset(recipe) in held_out)


def train_recipes(degradations: Iterable[DegradationType] = ()) -> tuple[Recipe, ...]:
    """Lists the recipes that critics are trained on, with the empty one.

    Args:
        degradations: Custom degradations beside the built-in ones.
    """
    custom_degradations = tuple(degradations)
    plausible = training_recipes(degradations=merge_degradations(custom_degradations).values())
    held_out = held_out_recipes(degradations=custom_degradations)
    return (*(recipe for recipe in plausible if recipe not in held_out), ())
