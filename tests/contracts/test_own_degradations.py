"""Custom degradations work in every environment, in comparisons and by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv
from numpy.random import default_rng

from opera_baselines.matched import Matched
from opera_baselines.untouched import Untouched
from opera_env.data import SyntheticSource, clean_folder, resolve_source
from opera_env.envs.registration import ENVIRONMENTS
from opera_env.errors import SampleError
from opera_env.evaluation.compare import EvaluationConfig, compare_agents
from opera_env.evaluation.report import summarise
from opera_env.tools import Toolbox
from opera_env.tools.nets import ConstantShift
from tests.degradations.own import SaltAndPepper, Vignette

RECIPES = (("vignette",), ("low_light", "salt_and_pepper"), ("vignette", "noise"))

every_environment = pytest.mark.parametrize("name", ENVIRONMENTS)


@pytest.fixture
def own_source(photos: Path) -> SyntheticSource:
    return clean_folder(photos, canvas=32, recipes=RECIPES, degradations=[SaltAndPepper(), Vignette])


@pytest.fixture
def options(toolbox: Toolbox, own_source: SyntheticSource) -> dict[str, Any]:
    return {
        "toolbox": toolbox,
        "reward": "classic",
        "source": own_source,
        "obs_size": 32,
        "max_tools": 2,
        "canvas": 32,
    }


def image_of(observation: Any) -> Any:
    """Stepwise observations are dictionaries, those of whole plans are images."""
    return observation["image"] if isinstance(observation, dict) else observation


def own_source_by_name() -> SyntheticSource:
    """Found by the name of this module."""
    return SyntheticSource([Path("unread.png")], "by_name", degradations=[Vignette])


@every_environment
def test_environments_report_own_degradations(name: str, options: dict[str, Any]) -> None:
    env, again = gym.make(name, **options), gym.make(name, **options)
    seen = set()
    for seed in range(12):
        observation, info = env.reset(seed=seed)
        same, _ = again.reset(seed=seed)
        assert np.array_equal(image_of(observation), image_of(same))
        seen |= set(info["degradations"])
    assert {"vignette", "salt_and_pepper"} <= seen <= {name for recipe in RECIPES for name in recipe}


@every_environment
def test_vector_form_gives_the_samples_of_single_environments(name: str, options: dict[str, Any]) -> None:
    single, _ = gym.make(name, **options).reset(seed=3)
    envs = gym.make_vec(name, num_envs=2, vectorization_mode="vector_entry_point", **options)
    observations, _ = envs.reset(seed=3)
    assert np.array_equal(image_of(observations)[0], image_of(single))


@pytest.mark.slow
def test_worker_processes_give_the_same_samples(options: dict[str, Any]) -> None:
    """The source, with its own degradations, is pickled for the worker."""
    name = "opera_env:OPERA-Restore-v0"
    single, _ = gym.make(name, **options).reset(seed=3)
    envs = AsyncVectorEnv([lambda: gym.make(name, **options)], context="forkserver")
    try:
        observations, _ = envs.reset(seed=3)
        assert np.array_equal(observations[0], single)
    finally:
        envs.close()


def test_compare_agents_uses_tools_for_own_degradations(own_source: SyntheticSource) -> None:
    toolbox = Toolbox().add("own.lighten", ConstantShift(25.5), degradations=["vignette"])
    specs = own_source.list_specs(6, None, default_rng(0))
    samples = [own_source.make(spec) for spec in specs]
    config = EvaluationConfig(reward="classic", max_tools=2, regret=False)
    agents = {"untouched": Untouched(), "matched": Matched(toolbox)}
    comparison = compare_agents(agents, samples, toolbox, config)
    with_vignette = sum("vignette" in spec.recipe for spec in specs)
    assert 0 < with_vignette < 6
    matched = [record for record in comparison.records if record.agent == "matched"]
    assert [record.plan for record in matched] == [
        ("own.lighten",) if "vignette" in spec.recipe else () for spec in specs
    ]
    assert set(summarise(comparison)["agents"]) == {"untouched", "matched"}


def test_a_source_is_found_by_module_and_attribute() -> None:
    source = resolve_source(f"{__name__}:own_source_by_name")
    assert source.name == "by_name"
    assert "vignette" in source.degradations


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_module:source", "'no_such_module:source' cannot be imported"),
        ("pathlib:nothing", "cannot be imported"),
        ("math:pi", "expected an object with name, degradations, .* found 3.14"),
    ],
)
def test_a_name_that_stands_for_no_source_is_refused(name: str, message: str) -> None:
    with pytest.raises(SampleError, match=message):
        resolve_source(name)
