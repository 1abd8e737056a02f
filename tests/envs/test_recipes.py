"""Recipes and degradations of one's own as arguments of environments, and the recipe of one episode."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

from opera_env.data import photographs
from opera_env.degradations import BENCHMARK_GROUPS
from opera_env.envs.registration import ENVIRONMENTS
from opera_env.errors import EnvArgumentError, OperaError, SampleError, UnknownDegradationError
from tests.degradations.own import Vignette

every_environment = pytest.mark.parametrize("name", ENVIRONMENTS)
Make = Callable[..., gym.Env[Any, Any]]


def drawn_recipes(env: Any, count: int = 12) -> set[tuple[str, ...]]:
    env.reset(seed=0)
    return {tuple(env.reset()[1]["sample"]["recipe"]) for _ in range(count)}


@every_environment
@pytest.mark.parametrize(
    ("recipes", "expected"),
    [
        ("noise+jpeg", {("noise", "jpeg")}),
        ("noise+jpeg, low_light", {("noise", "jpeg"), ("low_light",)}),
        ([("low_light", "noise")], {("low_light", "noise")}),
        (["noise", ["jpeg"]], {("noise",), ("jpeg",)}),
    ],
    ids=["one", "text", "tuples", "lists"],  # names of sets would differ between processes
)
def test_recipes_are_arguments(
    make_env: Make, photos: Path, name: str, recipes: Any, expected: Any
) -> None:
    env = make_env(name, source=str(photos), canvas=64, recipes=recipes)
    assert drawn_recipes(env) == expected


def test_sets_of_recipes_have_names(make_env: Make, photos: Path) -> None:
    for group, recipes in BENCHMARK_GROUPS.items():
        assert drawn_recipes(make_env(source=str(photos), canvas=64, recipes=group), 8) <= set(recipes)


def test_recipes_of_the_bundled_images(make_env: Make) -> None:
    assert drawn_recipes(make_env(source=None, recipes="noise", canvas=64), 3) == {("noise",)}


@every_environment
@pytest.mark.parametrize("degradations", ["tests.degradations.own:Vignette", [Vignette]], ids=str)
def test_degradations_are_arguments(make_env: Make, photos: Path, name: str, degradations: Any) -> None:
    options = {"source": str(photos), "canvas": 64, "degradations": degradations}
    env = make_env(name, **options, recipes="vignette,vignette+noise")
    assert drawn_recipes(env) == {("vignette",), ("vignette", "noise")}
    assert any("vignette" in recipe for recipe in drawn_recipes(make_env(name, **options), 20))


def test_vector_environments_take_them(photos: Path, toolbox: Any) -> None:
    options: dict[str, Any] = {"toolbox": toolbox, "source": str(photos), "canvas": 64, "reward": "classic"}
    envs: Any = gym.make_vec("OPERA-Restore-v0", num_envs=3, obs_size=64, recipes="noise+jpeg", **options)
    _, infos = envs.reset(seed=0)
    assert [tuple(recipe) for recipe in infos["sample"]["recipe"]] == [("noise", "jpeg")] * 3
    _, infos = envs.reset(options={"recipe": "haze"})
    assert [tuple(recipe) for recipe in infos["sample"]["recipe"]] == [("haze",)] * 3
    assert len(set(infos["sample"]["seed"])) == 3, "the samples are drawn"


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"recipes": "noise+snow"}, UnknownDegradationError, "'snow'"),
        ({"recipes": "D"}, UnknownDegradationError, "'D'"),
        ({"recipes": ""}, EnvArgumentError, "recipes"),
        ({"recipes": []}, EnvArgumentError, "recipes"),
        ({"recipes": 3}, EnvArgumentError, "recipes"),
        ({"recipes": [3]}, SampleError, "found 3"),
        ({"recipes": "noise+"}, SampleError, r"'noise\+'"),
        ({"recipes": [["noise", 1]]}, SampleError, "found"),
        ({"degradations": "tests.degradations.own:Absent"}, SampleError, "Absent"),
        ({"degradations": [3]}, SampleError, "found"),
    ],
    ids=repr,
)
def test_unusable_values_raise(
    make_env: Make, photos: Path, arguments: dict[str, Any], error: type[OperaError], says: str
) -> None:
    with pytest.raises(error, match=says):
        make_env(source=str(photos), canvas=64, **arguments)


@pytest.mark.parametrize("arguments", [{"recipes": "noise"}, {"degradations": [Vignette]}], ids=str)
def test_a_source_of_ones_own_has_its_own(make_env: Make, arguments: dict[str, Any]) -> None:
    with pytest.raises(SampleError, match="where the source is made"):
        make_env(**arguments)


@every_environment
def test_the_recipe_of_one_episode(make_env: Make, name: str) -> None:
    """Image, crop and seed are drawn as without the option; the next episode draws its own recipe."""
    env = make_env(name)
    drawn = env.reset(seed=5)[1]["sample"]
    _, info = env.reset(seed=5, options={"recipe": "haze+jpeg"})
    sample = info["sample"]
    assert sample | {"recipe": drawn["recipe"]} == drawn
    assert tuple(sample["recipe"]) == ("haze", "jpeg") and info["degradations"] == ("haze", "jpeg")
    replayed = env.reset(options={"sample": json.loads(json.dumps(sample))})[1]["sample"]
    assert replayed == sample
    assert tuple(env.reset(options={"recipe": ("noise",)})[1]["sample"]["recipe"]) == ("noise",)


def test_a_recipe_that_cannot_be_used_changes_nothing(make_env: Make, photos: Path) -> None:
    env, undisturbed = make_env(), make_env()
    for each in (env, undisturbed):
        each.reset(seed=1)
    for options, error in (
        ({"recipe": 3}, SampleError),
        ({"recipe": "A"}, SampleError),
        ({"recipe": "noise,jpeg"}, SampleError),
        ({"recipe": "noise", "sample": env.reset(seed=1)[1]["sample"]}, EnvArgumentError),
        ({"recipes": "noise"}, EnvArgumentError),
    ):
        with pytest.raises(error):
            env.reset(options=options)
    assert env.reset()[1]["sample"] == undisturbed.reset()[1]["sample"]
    degraded = make_env(source=photographs(photos, canvas=64))
    with pytest.raises(SampleError, match="degraded already"):
        degraded.reset(seed=0, options={"recipe": "noise"})
