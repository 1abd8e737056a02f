"""The recipes that critics are trained on, and those that are held out."""

from __future__ import annotations

import numpy as np

from opera_env.degradations import BENCHMARK_GROUPS, TRAINING_RECIPES, Recipe, benchmark_recipes


def held_out_recipes(seed: int = 0) -> tuple[Recipe, ...]:
    """Lists the recipes that no critic is trained on: some of the benchmark's and some others.

    A combination of degradations is held out in all orders, because another order would make it known.
    About 15 % of the training recipes are held out; single degradations are not.
    """
    benchmark = {frozenset(recipe) for recipe in benchmark_recipes()}
    combinations = sorted({tuple(sorted(recipe)) for recipe in TRAINING_RECIPES if len(recipe) > 1})
    order = np.random.default_rng(seed).permutation(len(combinations))
    shuffled = [frozenset(combinations[index]) for index in order]
    held_out = [names for names in shuffled if names in benchmark][:4]
    for names in (names for names in shuffled if names not in benchmark):
        num_held_out = sum(frozenset(recipe) in held_out for recipe in TRAINING_RECIPES)
        if num_held_out >= 0.15 * len(TRAINING_RECIPES):
            break
        held_out.append(names)
    all_recipes = dict.fromkeys(
        [*TRAINING_RECIPES, *(recipe for group in BENCHMARK_GROUPS.values() for recipe in group)]
    )
    return tuple(recipe for recipe in all_recipes if frozenset(recipe) in held_out)


def train_recipes() -> tuple[Recipe, ...]:
    """Lists the recipes that critics are trained on, with the empty one."""
    held_out = held_out_recipes()
    return (*(recipe for recipe in TRAINING_RECIPES if recipe not in held_out), ())
