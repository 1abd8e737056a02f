"""Every registered environment passes the checkers of Gymnasium and Stable-Baselines3, warnings being errors."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check
from stable_baselines3.common.env_checker import check_env as sb3_check
from stable_baselines3.common.vec_env import DummyVecEnv

from opera_env.data import Source
from opera_env.envs.registration import ENVIRONMENTS
from opera_env.tools import Toolbox

World = dict[str, Any]
every_game = pytest.mark.parametrize("name", ENVIRONMENTS)

WORLDS: dict[str, tuple[Any, ...]] = {
    "default": (pytest.mark.needs_weights("lpips"),),
    "tiny": (),
}
"""As ``gym.make`` without arguments makes it, and without any weights."""


@pytest.fixture(params=[pytest.param(name, marks=marks) for name, marks in WORLDS.items()])
def world(request: pytest.FixtureRequest, toolbox: Toolbox, source: Source) -> World:
    if request.param == "default":
        return {}
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
def test_the_vector_form_has_the_same_spaces(make_env: Callable[..., gym.Env[Any, Any]], name: str) -> None:
    single = make_env(name)
    vector = gym.make_vec(
        name,
        num_envs=2,
        vectorization_mode="vector_entry_point",
        toolbox=single.unwrapped.toolbox,
        reward="classic",
        source=single.unwrapped.rules.source,
        max_tools=3,
        obs_size=64,
    )
    assert vector.single_observation_space == single.observation_space
    assert vector.single_action_space == single.action_space


@every_game
def test_both_forms_take_the_same_arguments(name: str) -> None:
    import inspect

    def arguments(entry_point: str) -> dict[str, Any]:
        signature = inspect.signature(gym.envs.registration.load_env_creator(entry_point))
        return {key: parameter.default for key, parameter in signature.parameters.items()}

    single, vector = (arguments(entry_point) for entry_point in ENVIRONMENTS[name])
    assert {key: value for key, value in vector.items() if key not in ("num_envs", "group_size")} == single


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
