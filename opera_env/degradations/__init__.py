"""The eight built-in degradations, the protocol of a custom one, and recipes: their order in an image."""

from opera_env.degradations.base import Degradation, DegradationType, Stage, to_uint8
from opera_env.degradations.depth import find_depth, procedural_depth, read_depth
from opera_env.degradations.recipes import (
    BENCHMARK_GROUPS,
    STUDY_RECIPES,
    TRAINING_RECIPES,
    benchmark_group,
    benchmark_recipes,
    parse_recipes,
    sample_recipe,
    training_recipes,
)
from opera_env.degradations.registry import (
    DEGRADATION_CLASSES,
    DEGRADATIONS,
    Recipe,
    check_recipe,
    degrade,
    load_degradations,
    merge_degradations,
)

__all__ = [
    "BENCHMARK_GROUPS",
    "DEGRADATIONS",
    "DEGRADATION_CLASSES",
    "STUDY_RECIPES",
    "TRAINING_RECIPES",
    "Degradation",
    "DegradationType",
    "Recipe",
    "Stage",
    "benchmark_group",
    "benchmark_recipes",
    "check_recipe",
    "degrade",
    "find_depth",
    "load_degradations",
    "merge_degradations",
    "parse_recipes",
    "procedural_depth",
    "read_depth",
    "sample_recipe",
    "to_uint8",
    "training_recipes",
]
