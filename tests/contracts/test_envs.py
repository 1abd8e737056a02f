"""Every registered environment passes Gymnasium's and SB3's checkers, with warnings as errors."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check
from stable_baselines3.common.env_checker import check_env as sb3_check
from stable_baselines3.common.vec_env import DummyVecEnv

from opera_env.data import Source
from opera_env.envs.config import EnvConfig
from opera_env.envs.registration import ENVIRONMENTS
from opera_env.tools import Toolbox

World = dict[str, Any]
every_game = pytest.mark.parametrize("name", ENVIRONMENTS)

WORLDS: dict[str, tuple[Any, ...]] = {
    "default": (pytest.mark.needs_weights("lpips"),),
    "tiny": (),
}
"""With the tools and the reward of ``gym.make`` without arguments, and without any weights."""


@pytest.fixture(params=[pytest.param(name, marks=marks) for name, marks in WORLDS.items()])
def world(request: pytest.FixtureRequest, toolbox: Toolbox, source: Source) -> World:
    if request.param == "default":
        return {"canvas": 64, "max_tools": 3}  # the same, in a quarter of the time
    return {"toolbox": toolbox, "reward": "classic", "source": source, "obs_size": 64, "max_tools": 3}


@pytest.fixture
def strict() -> Iterator[None]:
    """Gymnasium's logger and SB3 both speak through ``warnings``."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.usefixtures("strict")
@every_game
def test_gymnasium_checker(world: World, name: str) -> None:
    env = gym.make(name, render_mode="rgb_array", **world)
    gymnasium_check(env.unwrapped)


@pytest.mark.usefixtures("strict")
@every_game
def test_sb3_checker(world: World, name: str) -> None:
    sb3_check(gym.make(name, render_mode="rgb_array", **world), warn=True)


@pytest.mark.usefixtures("strict")
@every_game
def test_an_episode_through_the_passive_checker(world: World, name: str) -> None:
    env = gym.make(name, **world)
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


@every_game
def test_rewards_are_floats_in_sb3_vectors(make_env: Callable[..., gym.Env[Any, Any]], name: str) -> None:
    """An integer reward of the first sub-environment would truncate those of the others."""
    envs = DummyVecEnv([lambda: make_env(name)] * 2)
    envs.seed(0)
    envs.reset()
    actions = np.stack([envs.action_space.sample() * 0, envs.action_space.sample() * 0 + 3])
    rewards = envs.step(actions)[1]
    assert rewards.dtype == np.float32
    assert rewards[1] % 1 != 0


@every_game
def test_both_forms_take_every_argument_and_no_other(name: str, toolbox: Toolbox, source: Source) -> None:
    config = EnvConfig(toolbox, "classic", source, 2, 48, None, 0.1, "cpu")
    world = {field.name: getattr(config, field.name) for field in fields(config)}
    single = gym.make(name, **world)
    vector = gym.make_vec(name, num_envs=2, vectorization_mode="vector_entry_point", group_size=2, **world)
    assert vector.single_observation_space == single.observation_space
    assert vector.single_action_space == single.action_space
    for misspelt in ({"max_tool": 2}, {"crop": 64}):
        with pytest.raises(TypeError):
            gym.make(name, **world, **misspelt)
        with pytest.raises(TypeError):
            gym.make_vec(name, num_envs=2, vectorization_mode="vector_entry_point", **world, **misspelt)


@every_game
def test_the_documentation_has_gymnasiums_headings(name: str) -> None:
    text = gym.envs.registration.load_env_creator(ENVIRONMENTS[name][0]).__doc__ or ""
    headings = [line.strip()[3:] for line in text.splitlines() if line.strip().startswith("## ")]
    assert headings == [
        "Description",
        "Action space",
        "Observation space",
        "Rewards",
        "Starting state",
        "Episode end",
        "Information",
        "Arguments",
    ]
