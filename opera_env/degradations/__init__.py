"""The eight degradations of real photographs, as seeded 8-bit operators, and their recipes."""

from opera_env.degradations.depth import find_depth, procedural_depth, read_depth
from opera_env.degradations.recipes import (
    BENCHMARK_GROUPS,
    DEGRADATION_CLASSES,
    DEGRADATIONS,
    STUDY_RECIPES,
    TRAINING_RECIPES,
    Operator,
    Recipe,
    benchmark_group,
    benchmark_recipes,
    check_recipe,
    degrade,
    sample_recipe,
    training_recipes,
)

__all__ = [
    "BENCHMARK_GROUPS",
    "DEGRADATIONS",
    "DEGRADATION_CLASSES",
    "STUDY_RECIPES",
    "TRAINING_RECIPES",
    "Operator",
    "Recipe",
    "benchmark_group",
    "benchmark_recipes",
    "check_recipe",
    "degrade",
    "find_depth",
    "procedural_depth",
    "read_depth",
    "sample_recipe",
    "training_recipes",
]
