"""close() of environments: nothing works after it, cached images are gone, and copies stay closed."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ClosedEnvironmentError
from gymnasium.vector import SyncVectorEnv
from gymnasium.wrappers import RecordEpisodeStatistics

from opera_agents.ppo.vec_env import OperaVecEnv
from opera_env.data import Source
from opera_env.envs.registration import ENVIRONMENTS
from opera_env.tools import Toolbox

FORMS = [(name, form) for name in ENVIRONMENTS for form in ("single", "vector")]


@pytest.fixture(params=FORMS, ids="-".join)
def env(request: pytest.FixtureRequest, toolbox: Toolbox, source: Source) -> Any:
    """An environment of each id and form, after a step."""
    name, form = request.param
    options: dict[str, Any] = {"toolbox": toolbox, "reward": "classic", "source": source, "max_tools": 3}
    options |= {"obs_size": 64, "render_mode": "rgb_array"}
    if form == "single":
        env = gym.make(name, **options)
    else:
        env = gym.make_vec(name, num_envs=2, vectorization_mode="vector_entry_point", **options)
    env.reset(seed=0)
    env.step(np.ones_like(env.action_space.sample()))
    return env


def test_nothing_works_after_close(env: Any) -> None:
    env.close()
    action = np.zeros_like(env.action_space.sample())
    for call in (lambda: env.step(action), env.reset, lambda: env.reset(seed=1), env.render):
        with pytest.raises(ClosedEnvironmentError, match=r"after close\(\): make a new environment"):
            call()
    env.close()  # closing twice is allowed
    assert env.unwrapped.rules.closed


def test_close_before_reset(make_env: Callable[..., Any]) -> None:
    env = make_env()
    env.close()
    with pytest.raises(ClosedEnvironmentError):
        env.reset()


def test_close_drops_cached_images_and_keeps_the_tools(env: Any, toolbox: Toolbox) -> None:
    scorer = env.unwrapped.rules.scorer
    assert len(scorer._references) > 0
    scored = scorer.images_scored
    env.close()
    assert len(scorer._references) == 0
    assert scorer.executor.cache is None or len(scorer.executor.cache) == 0
    assert env.unwrapped.toolbox is toolbox and len(toolbox) == 5
    assert scorer.images_scored == scored > 0  # statistics can still be read


def test_a_copy_of_a_closed_environment_is_closed(env: Any) -> None:
    env.unwrapped.close()
    copy = pickle.loads(pickle.dumps(env.unwrapped))
    with pytest.raises(ClosedEnvironmentError):
        copy.reset(seed=0)
    assert copy.toolbox.names == env.unwrapped.toolbox.names


def test_closing_one_environment_leaves_others_that_share_its_tools(
    make_env: Callable[..., Any], toolbox: Toolbox
) -> None:
    first, second = (make_env("OPERA-RestoreStepwise-v0", toolbox=toolbox) for _ in range(2))
    first.reset(seed=0), second.reset(seed=0)
    first.close()
    assert second.step(3)[4]["plan"] == ("tiny.blur",)


def test_wrappers_and_other_vectors_close(make_env: Callable[..., Any]) -> None:
    wrapped = RecordEpisodeStatistics(make_env())
    with wrapped:
        wrapped.reset(seed=0)
    with pytest.raises(ClosedEnvironmentError):
        wrapped.reset()
    singles = [make_env(), make_env()]
    envs = SyncVectorEnv([lambda: singles[0], lambda: singles[1]])
    envs.reset(seed=0)
    envs.close()
    assert all(single.unwrapped.rules.closed for single in singles)


def test_the_vec_env_of_sb3_closes(toolbox: Toolbox, source: Source) -> None:
    options = {"toolbox": toolbox, "reward": "classic", "source": source, "max_tools": 3}
    vector: Any = gym.make_vec(
        "OPERA-RestoreStepwise-v0", num_envs=2, vectorization_mode="vector_entry_point", **options
    )
    envs = OperaVecEnv(vector)
    envs.reset()
    envs.close()
    with pytest.raises(ClosedEnvironmentError):
        envs.step(np.array([1, 1]))


def test_masks_of_a_vector_before_reset_allow_every_action(toolbox: Toolbox, source: Source) -> None:
    vector: Any = gym.make_vec(
        "OPERA-RestoreStepwise-v0",
        num_envs=2,
        vectorization_mode="vector_entry_point",
        toolbox=toolbox,
        source=source,
        reward="classic",
    )
    assert vector.action_masks().tolist() == [[True] * 6] * 2
