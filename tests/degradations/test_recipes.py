"""The 145 training recipes, the groups of the benchmark, sampling, and reproducible degradation."""

from __future__ import annotations

import itertools
import math
import multiprocessing
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.random import default_rng
from numpy.typing import NDArray
from skimage import data

from opera_env.degradations import (
    BENCHMARK_GROUPS,
    DEGRADATION_CLASSES,
    DEGRADATIONS,
    STUDY_RECIPES,
    TRAINING_RECIPES,
    Recipe,
    benchmark_group,
    benchmark_recipes,
    check_recipe,
    degrade,
    parse_recipes,
    sample_recipe,
    training_recipes,
)
from opera_env.degradations.weather import Haze
from opera_env.errors import OperaError, SampleError, UnknownDegradationError

# Written out here and not taken from the package.
STAGE = {
    **dict.fromkeys(("rain", "haze", "low_light"), 1),
    **dict.fromkeys(("motion_blur", "defocus_blur"), 2),
    **dict.fromkeys(("noise", "low_resolution", "jpeg"), 3),
}
GROUP_A = """rain+haze, motion_blur+low_resolution, low_light+noise, defocus_blur+jpeg, noise+jpeg,
    rain+low_resolution, motion_blur+low_light, defocus_blur+haze"""
GROUP_B = "motion_blur+jpeg, haze+noise, defocus_blur+low_resolution, rain+low_light"
GROUP_C = """haze+motion_blur+low_resolution, rain+noise+low_resolution, low_light+defocus_blur+jpeg,
    motion_blur+defocus_blur+noise"""
EXPECTED = {
    group: [tuple(recipe.strip().split("+")) for recipe in text.split(",")]
    for group, text in {"A": GROUP_A, "B": GROUP_B, "C": GROUP_C}.items()
}


def photograph(height: int = 64, width: int = 96) -> NDArray[np.uint8]:
    return np.ascontiguousarray(data.astronaut()[40 : 40 + height, 180 : 180 + width])


def chi_square(counts: Sequence[int], expected: Sequence[float]) -> float:
    return sum((count - mean) ** 2 / mean for count, mean in zip(counts, expected, strict=True))


def assert_fair(counts: Sequence[int], expected: Sequence[float]) -> None:
    """Chi-square below its mean plus five deviations: p about 1e-5."""
    degrees_of_freedom = len(counts) - 1
    assert chi_square(counts, expected) < degrees_of_freedom + 5 * math.sqrt(2 * degrees_of_freedom)


# ---- the training recipes ----------------------------------------------------------------------


def test_the_145_recipes_equal_a_brute_force_search() -> None:
    """Every word of one to three letters, kept if no later stage comes before an earlier one."""
    actual = set()
    for length in (1, 2, 3):
        for word in itertools.product(STAGE, repeat=length):
            pairs = list(itertools.combinations(word, 2))
            if all(a != b and not STAGE[a] > STAGE[b] for a, b in pairs):
                actual.add(word)
    assert set(TRAINING_RECIPES) == actual
    assert len(TRAINING_RECIPES) == len(actual) == 145


def test_the_145_recipes_equal_a_count_by_stages() -> None:
    """How many of each stage, which, in which order: 8 + 35 + 102."""
    sizes, by_length = (3, 2, 3), Counter[int]()
    for chosen in itertools.product(range(4), repeat=3):
        if all(n <= size for n, size in zip(chosen, sizes, strict=True)):
            ways = math.prod(math.perm(size, n) for n, size in zip(chosen, sizes, strict=True))
            by_length[sum(chosen)] += ways
    assert [by_length[length] for length in (1, 2, 3)] == [8, 35, 102]
    assert Counter(map(len, TRAINING_RECIPES)) == {1: 8, 2: 35, 3: 102}
    assert len(training_recipes(4)) == 145 + by_length[4]


def test_recipes_are_distinct_and_follow_the_stages() -> None:
    assert len(set(TRAINING_RECIPES)) == len(TRAINING_RECIPES)
    for recipe in TRAINING_RECIPES:
        assert len(set(recipe)) == len(recipe)
        assert [STAGE[name] for name in recipe] == sorted(STAGE[name] for name in recipe)
    assert ("rain", "haze") in TRAINING_RECIPES and (
        "haze",
        "rain",
    ) in TRAINING_RECIPES  # any order inside a stage
    assert ("noise", "rain") not in TRAINING_RECIPES


@pytest.mark.parametrize(("longest", "count"), [(0, 0), (1, 8), (2, 43), (3, 145)])
def test_training_recipes_up_to_a_length(longest: int, count: int) -> None:
    assert len(training_recipes(longest)) == count


# ---- the benchmark -----------------------------------------------------------------------------


def test_groups_are_those_of_the_benchmark() -> None:
    assert {group: list(recipes) for group, recipes in BENCHMARK_GROUPS.items()} == EXPECTED
    assert [len(BENCHMARK_GROUPS[group]) for group in "ABC"] == [8, 4, 4]
    assert len({recipe for recipes in BENCHMARK_GROUPS.values() for recipe in recipes}) == 16
    images = sum(
        len(BENCHMARK_GROUPS[group]) * each for group, each in zip("ABC", (80, 100, 100), strict=True)
    )
    assert images == 1440


def test_two_benchmark_orders_lie_outside_the_rule() -> None:
    outside = {r for recipes in BENCHMARK_GROUPS.values() for r in recipes} - set(TRAINING_RECIPES)
    assert outside == {("motion_blur", "low_light"), ("defocus_blur", "haze")}


def test_benchmark_group() -> None:
    for group, recipes in EXPECTED.items():
        assert [benchmark_group(recipe) for recipe in recipes] == [group] * len(recipes)
    assert benchmark_group(("haze", "rain")) is None  # the order counts
    assert benchmark_group(("noise",)) is None
    assert benchmark_group(()) is None


def test_benchmark_recipes_are_balanced() -> None:
    recipes = benchmark_recipes()
    assert len(recipes) == 24
    assert set(recipes) == {recipe for group in EXPECTED.values() for recipe in group}
    groups = [benchmark_group(recipe) for recipe in recipes]
    assert groups == ["A", "B", "C"] * 8
    for stop in range(1, len(groups) + 1):
        counts = Counter(groups[:stop])
        assert max(counts[group] for group in "ABC") - min(counts[group] for group in "ABC") <= 1
    times = Counter(recipes)
    assert [times[recipe] for recipe in EXPECTED["A"]] == [1] * 8
    assert [times[recipe] for recipe in EXPECTED["B"] + EXPECTED["C"]] == [2] * 8


def test_the_study_has_eight_combinations() -> None:
    assert len({frozenset(recipe) for recipe in STUDY_RECIPES}) == len(STUDY_RECIPES) == 8
    for recipe in STUDY_RECIPES:
        assert check_recipe(recipe) == recipe
        assert len(set(recipe)) == len(recipe) in (2, 3)
    assert [len(recipe) for recipe in STUDY_RECIPES] == [2] * 6 + [3] * 2
    assert set().union(*STUDY_RECIPES) == {"rain", "haze", "noise", "defocus_blur"}


# ---- sampling ----------------------------------------------------------------------------------


def draws(count: int, seed: int = 7, **options) -> list[Recipe]:
    rng = default_rng(seed)
    return [sample_recipe(rng, **options) for _ in range(count)]


def test_sampling_is_1_3_5_and_uniform_inside_a_length() -> None:
    drawn = draws(9000)
    lengths, times = Counter(map(len, drawn)), Counter(drawn)
    assert_fair([lengths[n] for n in (1, 2, 3)], [1000, 3000, 5000])
    for n, recipes in ((1, 8), (2, 35), (3, 102)):
        counts = [times[recipe] for recipe in TRAINING_RECIPES if len(recipe) == n]
        assert_fair(counts, [lengths[n] / recipes] * recipes)


@pytest.mark.parametrize(
    ("ratio", "shares"),
    [
        ({1: 1, 2: 1, 3: 1}, (1, 1, 1)),
        ({1: 0.5, 2: 0.25, 3: 0.25}, (2, 1, 1)),
        ({1: 2, 2: 1, 9: 100}, (2, 1, 0)),  # no recipe has nine
    ],
)
def test_own_length_weights(ratio: dict[int, float], shares: tuple[int, ...]) -> None:
    lengths = Counter(map(len, draws(3000, length_weights=ratio)))
    expected_counts = [
        (lengths[n], 3000 * share / sum(shares)) for n, share in zip((1, 2, 3), shares, strict=True)
    ]
    assert all(count == 0 for count, mean in expected_counts if mean == 0)
    assert_fair(
        [count for count, mean in expected_counts if mean], [mean for _, mean in expected_counts if mean]
    )


def test_own_recipes() -> None:
    own_recipes = [("noise",), ("jpeg", "noise"), ("haze", "noise"), ("noise", "noise")]
    times = Counter(draws(4000, recipes=own_recipes))
    assert set(times) == set(own_recipes)
    assert_fair([times[recipe] for recipe in own_recipes], [1000, 1000, 1000, 1000])  # 1 : 3, three of two


def test_own_recipes_of_another_length() -> None:
    four = ("rain", "motion_blur", "noise", "jpeg")
    assert set(draws(20, recipes=[four])) == {four}
    times = Counter(map(len, draws(3000, recipes=[("noise",), four], length_weights={1: 1, 4: 2})))
    assert_fair([times[1], times[4]], [1000, 2000])


def test_recipes_of_the_benchmark_can_be_sampled() -> None:
    lengths = Counter(map(len, draws(4000, recipes=benchmark_recipes())))
    assert_fair([lengths[2], lengths[3]], [1500, 2500])  # 3 : 5


def test_sampling_depends_on_the_generator_alone() -> None:
    assert draws(50, seed=1) == draws(50, seed=1)
    assert draws(50, seed=1) != draws(50, seed=2)


# ---- checking and applying ---------------------------------------------------------------------


def test_unknown_degradation_names_the_known_ones() -> None:
    for call in (
        lambda: check_recipe(("rain", "fog")),
        lambda: degrade(photograph(), ["fog"], default_rng(0)),
    ):
        with pytest.raises(UnknownDegradationError, match="'fog'") as caught:
            call()
        assert caught.value.name == "fog"
        assert isinstance(caught.value, OperaError)
        for name in DEGRADATIONS:
            assert name in str(caught.value)


def test_unknown_degradation_is_refused_before_anything_is_drawn() -> None:
    rng = default_rng(0)
    with pytest.raises(UnknownDegradationError):
        degrade(photograph(), ("noise", "fog"), rng)
    assert rng.random() == default_rng(0).random()


def test_check_recipe_returns_a_tuple() -> None:
    assert check_recipe(["noise", "jpeg"]) == ("noise", "jpeg")
    assert check_recipe(()) == ()


def test_the_empty_recipe_changes_nothing() -> None:
    image = photograph()
    result, applied = degrade(image, (), default_rng(0))
    assert applied == () and (result == image).all()


@pytest.mark.parametrize("recipe", [("low_light", "noise"), ("haze", "motion_blur", "low_resolution")])
def test_degrade_applies_from_left_to_right(recipe: Recipe) -> None:
    image, rng = photograph(), default_rng(11)
    result, applied = degrade(image, recipe, default_rng(11))
    for name, operator in zip(recipe, applied, strict=True):
        drawn = DEGRADATION_CLASSES[name].draw(rng)
        assert drawn == operator
        image = drawn(image, rng)
        assert image.dtype == np.uint8
    assert (image == result).all()


def test_order_matters() -> None:
    a, _ = degrade(photograph(), ("noise", "jpeg"), default_rng(0))
    b, _ = degrade(photograph(), ("jpeg", "noise"), default_rng(0))
    assert (a != b).any()


@pytest.mark.parametrize("seed", range(2))
def test_every_recipe_runs(seed: int) -> None:
    image = photograph(40, 48)
    original = image.copy()
    image.setflags(write=False)
    for recipe in {*TRAINING_RECIPES, *benchmark_recipes()}:
        result, applied = degrade(image, recipe, default_rng(seed))
        assert result.dtype == np.uint8
        assert result.shape == ((10, 12, 3) if "low_resolution" in recipe else (40, 48, 3))
        assert tuple(operator.name for operator in applied) == recipe
    assert (image == original).all()


def test_degrade_passes_the_depth_map_to_haze() -> None:
    image = photograph()
    depth = default_rng(1).random(image.shape[:2], np.float32)
    given, (haze,) = degrade(image, ("haze",), default_rng(3), depth)
    assert isinstance(haze, Haze)
    assert (given == haze(image, default_rng(0), depth)).all()
    made_up, _ = degrade(image, ("haze",), default_rng(3))
    assert (given != made_up).any()


# ---- the same seed, the same bits --------------------------------------------------------------


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_same_seed_same_bits(name: str) -> None:
    image = photograph()
    first, operators = degrade(image, (name,), default_rng(5))
    again, same = degrade(image, (name,), default_rng(5))
    assert operators == same and (first == again).all()
    other_results = [degrade(image, (name,), default_rng(seed))[0] for seed in range(6, 12)]
    if name == "low_resolution":
        assert all((other == first).all() for other in other_results)  # nothing is drawn
    else:
        assert any((other != first).any() for other in other_results)


def test_global_random_state_is_not_used() -> None:
    image, recipe = photograph(), ("rain", "defocus_blur", "noise")
    np.random.seed(0)  # noqa: NPY002
    first, _ = degrade(image, recipe, default_rng(5))
    np.random.seed(1)  # noqa: NPY002
    again, _ = degrade(image, recipe, default_rng(5))
    untouched = np.random.rand()  # noqa: NPY002
    assert (first == again).all()
    np.random.seed(1)  # noqa: NPY002
    assert untouched == np.random.rand()  # noqa: NPY002


def test_another_process_makes_the_same_bits() -> None:
    image = photograph(128, 128)
    recipes = [*((name,) for name in DEGRADATIONS), *benchmark_recipes()[:6], ("rain", "haze", "noise")]
    jobs = [(image, recipe, default_rng(seed)) for seed, recipe in enumerate(recipes)]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        elsewhere = pool.starmap(degrade, jobs)
    for (_, recipe, _), (result, operators) in zip(jobs, elsewhere, strict=True):
        here, same = degrade(image, recipe, default_rng(recipes.index(recipe)))
        assert operators == same, recipe
        assert (result == here).all(), recipe


def test_recipes_are_parsed_as_users_write_them() -> None:
    assert parse_recipes("rain+noise") == (("rain", "noise"),)
    assert parse_recipes(" rain + noise , jpeg") == (("rain", "noise"), ("jpeg",))
    assert parse_recipes(["rain", ("haze", "jpeg"), ["noise"]]) == (("rain",), ("haze", "jpeg"), ("noise",))
    assert parse_recipes("A") == BENCHMARK_GROUPS["A"]
    assert len(parse_recipes("benchmark")) == 16
    assert parse_recipes("training") == TRAINING_RECIPES
    assert parse_recipes("noise,noise,A") == (("noise",), *BENCHMARK_GROUPS["A"])


@pytest.mark.parametrize(
    "recipes", ["", ",", "+", "rain+", [], [()], [3], 3, [["rain", None]], ["rain,noise"]]
)
def test_what_is_not_a_recipe_is_refused(recipes: Any) -> None:
    with pytest.raises(SampleError, match="expected"):
        parse_recipes(recipes)


def test_long_recipes_beside_short_ones_are_drawn() -> None:
    recipes = [("rain",), ("rain", "haze", "noise", "jpeg")]
    rng = default_rng(0)
    lengths = [len(sample_recipe(rng, recipes)) for _ in range(600)]
    assert lengths.count(4) / 600 == pytest.approx(5 / 6, abs=0.05)
