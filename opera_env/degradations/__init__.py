"""The eight degradations of real photographs, as seeded 8-bit operators, and their recipes."""

from opera_env.degradations.depth import find_depth, procedural_depth, read_depth
from opera_env.degradations.recipes import (
    DEGRADATIONS,
    GROUPS,
    OPERATORS,
    RECIPES,
    STUDY,
    Operator,
    Recipe,
    benchmark_recipes,
    check_recipe,
    degrade,
    group_of,
    sample_recipe,
    training_recipes,
)

__all__ = [
    "DEGRADATIONS",
    "GROUPS",
    "OPERATORS",
    "RECIPES",
    "STUDY",
    "Operator",
    "Recipe",
    "benchmark_recipes",
    "check_recipe",
    "degrade",
    "find_depth",
    "group_of",
    "procedural_depth",
    "read_depth",
    "sample_recipe",
    "training_recipes",
]
