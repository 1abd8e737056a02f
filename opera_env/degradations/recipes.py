"""Which degradations, in which order: the training recipes and the benchmark's groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations, product
from typing import TypeAlias

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from opera_env.degradations.blur import DefocusBlur, MotionBlur
from opera_env.degradations.camera import Jpeg, LowLight, LowResolution, Noise
from opera_env.degradations.weather import Haze, Rain
from opera_env.errors import SampleError, UnknownDegradationError

Recipe: TypeAlias = tuple[str, ...]
"""Names of degradations in the order they are applied."""

Operator: TypeAlias = Rain | Haze | LowLight | MotionBlur | DefocusBlur | Noise | LowResolution | Jpeg

STAGES: tuple[tuple[type[Operator], ...], ...] = (
    (Rain, Haze, LowLight),  # the scene
    (MotionBlur, DefocusBlur),  # the lens
    (Noise, LowResolution, Jpeg),  # sensor and storage
)
"""The operators in the order a photograph meets them."""

DEGRADATION_CLASSES: Mapping[str, type[Operator]] = {op.name: op for stage in STAGES for op in stage}
DEGRADATIONS: tuple[str, ...] = tuple(DEGRADATION_CLASSES)


def training_recipes(max_length: int = 3) -> tuple[Recipe, ...]:
    """Lists all orders of distinct degradations in which scene precedes lens precedes storage.

    Inside a stage every order counts. With at most three degradations these are the 145
    combinations that the paper trains on.

    Example:
        >>> len(training_recipes()), len(training_recipes(1))
        (145, 8)

    Source: section 5.1 gives the number and "likely to occur in practice"; the rule is
        inferred, being the natural one that gives this number.
    """
    stage = {op.name: number for number, ops in enumerate(STAGES) for op in ops}
    return tuple(
        order
        for length in range(1, max_length + 1)
        for order in permutations(DEGRADATIONS, length)
        if all(stage[a] <= stage[b] for a, b in zip(order, order[1:], strict=False))
    )


TRAINING_RECIPES: tuple[Recipe, ...] = training_recipes()

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
"""The benchmark's 16 combinations by group. Source: AgenticIR's public benchmark."""

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
"""The combinations of the paper's empirical study; which of the two blurs it means is our reading."""


def check_recipe(recipe: Sequence[str]) -> Recipe:
    """Returns the recipe as a tuple.

    Raises:
        UnknownDegradationError: If it names something that is no degradation.
    """
    for name in recipe:
        if name not in DEGRADATION_CLASSES:
            raise UnknownDegradationError(name, DEGRADATIONS)
    return tuple(recipe)


def benchmark_group(recipe: Recipe) -> str | None:
    """Returns the benchmark group a recipe belongs to, None for any other recipe."""
    return next((group for group, recipes in BENCHMARK_GROUPS.items() if recipe in recipes), None)


def benchmark_recipes() -> tuple[Recipe, ...]:
    """Interleaves the groups, A, B, C, A, B, C, ..., so that any prefix is balanced.

    B and C have half as many combinations as A and come round twice: 24 entries in which
    every group stands 8 times and all 16 combinations occur.
    """
    longest = max(len(recipes) for recipes in BENCHMARK_GROUPS.values())
    return tuple(
        recipes[turn % len(recipes)] for turn, recipes in product(range(longest), BENCHMARK_GROUPS.values())
    )


def sample_recipe(
    rng: Generator,
    recipes: Sequence[Recipe] = TRAINING_RECIPES,
    ratio: Mapping[int, float] | None = None,
) -> Recipe:
    """Draws a recipe: first how many degradations, then one recipe of that length.

    Args:
        rng: The only source of chance.
        recipes: What to draw from.
        ratio: Weight of each length; the paper's 1 : 3 : 5 by default, and equal weights
            if all recipes are longer than 3.

    Raises:
        SampleError: If the ratio gives no length a chance.
    """
    lengths = sorted({len(recipe) for recipe in recipes})
    if ratio is None:
        ratio = {1: 1.0, 2: 3.0, 3: 5.0} if lengths[0] <= 3 else dict.fromkeys(lengths, 1.0)
    weights = np.array([ratio.get(length, 0.0) for length in lengths])
    if weights.sum() <= 0:
        raise SampleError(f"no recipe has a length that the ratio {dict(ratio)} allows; found {lengths}.")
    length = lengths[rng.choice(len(lengths), p=weights / weights.sum())]
    candidates = [recipe for recipe in recipes if len(recipe) == length]
    return candidates[rng.integers(len(candidates))]


def degrade(
    image: NDArray[np.uint8],
    recipe: Sequence[str],
    rng: Generator,
    depth: NDArray[np.float32] | None = None,
) -> tuple[NDArray[np.uint8], tuple[Operator, ...]]:
    """Applies a recipe from left to right; the image is 8-bit after every step.

    Args:
        image: uint8 RGB (H, W, 3), H and W multiples of 4 if the recipe lowers resolution.
        recipe: Names from :data:`DEGRADATIONS`.
        rng: The only source of chance.
        depth: float32 (H, W) in [0, 1] for haze; made up from the image where None.

    Returns:
        The degraded image, uint8 (h, w, 3), and the operators with the parameters drawn.
    """
    applied: list[Operator] = []
    for name in check_recipe(recipe):
        operator = DEGRADATION_CLASSES[name].draw(rng)
        image = operator(image, rng, depth) if isinstance(operator, Haze) else operator(image, rng)
        applied.append(operator)
    return image, tuple(applied)
