"""Every registered environment passes Gymnasium's and SB3's checkers, with warnings as errors."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env as gymnasium_check
from stable_baselines3.common.env_checker import check_env as sb3_check
from stable_baselines3.common.vec_env import DummyVecEnv

from opera_env.data import Source
from opera_env.envs.config import EnvConfig
from opera_env.envs.registration import ENVIRONMENTS
from opera_env.errors import EnvArgumentError
from opera_env.tools import Toolbox
from opera_env.types import Sample, SampleSpec

Config = dict[str, Any]
every_environment = pytest.mark.parametrize("name", ENVIRONMENTS)

CONFIGS: dict[str, tuple[Any, ...]] = {
    "default": (pytest.mark.needs_weights("lpips"),),
    "tiny": (),
}
"""The tools and reward of ``gym.make`` without arguments, and a configuration that needs no weights."""


@pytest.fixture(params=[pytest.param(name, marks=marks) for name, marks in CONFIGS.items()])
def config(request: pytest.FixtureRequest, toolbox: Toolbox, source: Source) -> Config:
    if request.param == "default":
        return {"canvas": 64, "max_tools": 3}  # small images for speed
    return {"toolbox": toolbox, "reward": "classic", "source": source, "obs_size": 64, "max_tools": 3}


@pytest.fixture
def strict() -> Iterator[None]:
    """Turns warnings into errors; Gymnasium's logger and SB3 both use ``warnings``."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.usefixtures("strict")
@every_environment
def test_gymnasium_checker(config: Config, name: str) -> None:
    env = gym.make(name, render_mode="rgb_array", **config)
    gymnasium_check(env.unwrapped)


@pytest.mark.usefixtures("strict")
@every_environment
def test_sb3_checker(config: Config, name: str) -> None:
    sb3_check(gym.make(name, render_mode="rgb_array", **config), warn=True)


@pytest.mark.usefixtures("strict")
@every_environment
def test_an_episode_passes_the_passive_checker(config: Config, name: str) -> None:
    env = gym.make(name, **config)
    env.action_space.seed(1)
    observation, _ = env.reset(seed=1)
    terminated = False
    while not terminated:
        assert observation in env.observation_space
        observation, reward, terminated, truncated, _ = env.step(env.action_space.sample())
        assert type(reward) is float and np.isfinite(reward)
        assert terminated is True or terminated is False
        assert truncated is False
    env.close()


@every_environment
def test_rewards_are_floats_in_sb3_vectors(make_env: Callable[..., gym.Env[Any, Any]], name: str) -> None:
    """An integer reward of the first sub-environment would truncate those of the others."""
    envs = DummyVecEnv([lambda: make_env(name)] * 2)
    envs.seed(0)
    envs.reset()
    actions = np.stack([envs.action_space.sample() * 0, envs.action_space.sample() * 0 + 3])
    rewards = envs.step(actions)[1]
    assert rewards.dtype == np.float32
    assert rewards[1] % 1 != 0


class _RustSource:
    """A source whose samples have a label that is not the name of a built-in degradation."""

    name, degradations = "rust", ("rust",)

    def __len__(self) -> int:
        return 1

    def draw(self, rng: np.random.Generator) -> SampleSpec:
        return SampleSpec(self.name, 0, ("rust",), int(rng.integers(100)))

    def list_specs(self, count: int, recipes: Any, rng: np.random.Generator) -> list[SampleSpec]:
        return [self.draw(rng) for _ in range(count)]

    def make(self, spec: SampleSpec) -> Sample:
        image = torch.full((3, 32, 32), spec.seed / 100)
        return Sample(image, image, frozenset(spec.recipe), (32, 32), spec)


@every_environment
def test_labels_are_those_of_the_source(name: str, toolbox: Toolbox) -> None:
    config = {"toolbox": toolbox, "reward": "classic", "source": _RustSource(), "max_tools": 2}
    env = gym.make(name, **config)
    _, info = env.reset(seed=0)
    assert info["degradations"] == ("rust",)
    _, again = env.reset(options={"sample": info["sample"]})
    assert again["sample"] == info["sample"]
    vector = gym.make_vec(name, num_envs=2, vectorization_mode="vector_entry_point", **config)
    _, infos = vector.reset(seed=0)
    assert list(infos["degradations"]) == [("rust",)] * 2


@every_environment
def test_both_forms_accept_the_same_arguments(name: str, toolbox: Toolbox, source: Source) -> None:
    values = EnvConfig(toolbox, "classic", source, 2, 48, None, 0.1, "cpu")
    config = {field.name: getattr(values, field.name) for field in fields(values)}
    single = gym.make(name, **config)
    vector = gym.make_vec(name, num_envs=2, vectorization_mode="vector_entry_point", group_size=2, **config)
    assert vector.single_observation_space == single.observation_space
    assert vector.single_action_space == single.action_space
    for misspelt in ({"max_tool": 2}, {"crop": 64}):
        with pytest.raises(EnvArgumentError, match=next(iter(misspelt))):
            gym.make(name, **config, **misspelt)
        with pytest.raises(EnvArgumentError, match=next(iter(misspelt))):
            gym.make_vec(name, num_envs=2, vectorization_mode="vector_entry_point", **config, **misspelt)


@every_environment
def test_the_docstring_has_the_headings_of_gymnasium(name: str) -> None:
    text = gym.envs.registration.load_env_creator(ENVIRONMENTS[name][0]).__doc__ or ""
    headings = [line.strip()[3:] for line in text.splitlines() if line.strip().startswith("## ")]
    assert headings == [
        "Description",
        "Action Space",
        "Observation Space",
        "Rewards",
        "Starting State",
        "Episode End",
        "Arguments",
        "Information",
        "Version History",
    ]
