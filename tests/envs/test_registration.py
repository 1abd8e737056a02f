"""Registered ids: in this process, in new processes, and in the vector environments of other libraries."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import pytest
from gymnasium.envs.registration import registry

import opera_env
from opera_env.envs.registration import ENVIRONMENTS, register_all

FRESH = """
import sys, warnings
warnings.simplefilter("error")
import gymnasium as gym
env = gym.make("opera_env:{name}")
observation, info = env.reset(seed=0)
assert observation in env.observation_space
env.action_space.seed(0)
observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
assert observation in env.observation_space and 0 <= info["r_q"] <= 10
assert not {{"stable_baselines3", "transformers", "trl", "opera_baselines"}} & set(sys.modules)
print(type(env.unwrapped).__name__, env.spec.max_episode_steps)
"""

PROCESSES = """
import sys
from functools import partial

import gymnasium as gym
import numpy as np
from gymnasium.vector import AsyncVectorEnv
from stable_baselines3.common.vec_env import SubprocVecEnv

name, folder = sys.argv[1:]
options = {"reward": "classic", "source": folder, "canvas": 64, "obs_size": 64, "max_tools": 2}
make = partial(gym.make, f"opera_env:{name}", **options)


def flat(observation):
    return observation if isinstance(observation, np.ndarray) else observation["image"]


if __name__ == "__main__":
    singles = [make(), make()]
    starts = [flat(env.reset(seed=3 + index)[0]) for index, env in enumerate(singles)]
    action = singles[0].action_space.sample() * 0 + 1
    results = [env.step(action) for env in singles]

    envs = AsyncVectorEnv([make, make], context="forkserver")
    observations, _ = envs.reset(seed=3)
    assert all(np.array_equal(*pair) for pair in zip(flat(observations), starts))
    _, rewards, *_, infos = envs.step(np.stack([action, action]))
    assert rewards.tolist() == [result[1] for result in results], (rewards, results)
    assert [picture.tobytes() for picture in infos["restored"]] == [
        result[4]["restored"].tobytes() for result in results
    ]
    envs.close()

    envs = SubprocVecEnv([make, make], start_method="forkserver")
    envs.seed(3)
    observations = flat(envs.reset())
    assert all(np.array_equal(*pair) for pair in zip(observations, starts))
    _, rewards, dones, infos = envs.step(np.stack([action, action]))
    # SB3 stores rewards in float32 and resets environments whose episode has ended.
    assert np.allclose(rewards, [result[1] for result in results], atol=1e-5)
    assert dones.tolist() == [result[2] for result in results]
    assert [info["plan"] for info in infos] == [result[4]["plan"] for result in results]
    if hasattr(singles[0].unwrapped, "action_masks"):
        masks = envs.env_method("action_masks")
        assert all(
            np.array_equal(mask, env.unwrapped.action_masks()) for mask, env in zip(masks, singles)
        )
    envs.close()
    print("done")
"""


def run(code: str, folder: Path, environment: dict[str, str], *arguments: str) -> str:
    """Runs a program as a user does: from a file outside of the repository."""
    script = folder / "program.py"
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, str(script), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=folder,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout.strip().splitlines()[-1]


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_registered_specification(name: str) -> None:
    spec = gym.spec(name)
    assert spec.max_episode_steps is None  # a time limit would truncate episodes
    assert (spec.entry_point, spec.vector_entry_point) == ENVIRONMENTS[name]
    assert not spec.nondeterministic


def test_registering_twice_has_no_effect(recwarn: pytest.WarningsRecorder) -> None:
    before = dict(registry)
    register_all()
    assert dict(registry) == before
    assert not recwarn.list


def test_the_package_has_a_version() -> None:
    assert opera_env.__version__.count(".") == 2


@pytest.mark.needs_weights("lpips")
def test_make_in_a_new_process(tmp_path: Path, child_environment: dict[str, str]) -> None:
    """Only gymnasium is imported; there is no warning, and no training library is loaded."""
    printed = run(FRESH.format(name="OPERA-Restore-v0"), tmp_path, child_environment)
    assert printed == "RestoreEnv None"


@pytest.mark.slow
@pytest.mark.needs_weights("lpips")
def test_make_stepwise_in_a_new_process(tmp_path: Path, child_environment: dict[str, str]) -> None:
    printed = run(FRESH.format(name="OPERA-RestoreStepwise-v0"), tmp_path, child_environment)
    assert printed == "StepwiseEnv None"


@pytest.mark.slow
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_subprocess_environments_of_other_libraries(
    tmp_path: Path, photos: Path, child_environment: dict[str, str], name: str
) -> None:
    """Gymnasium's AsyncVectorEnv and SB3's SubprocVecEnv give the results of single environments."""
    assert run(PROCESSES, tmp_path, child_environment, name, str(photos)) == "done"
