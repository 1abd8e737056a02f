"""The native vector environments as Stable-Baselines3 wants them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from opera_env.envs.vector import RestoreVectorEnv
from opera_env.tools import Toolbox

_TOLD = ("plan", "degradations", "r_q")
"""What is passed on of the last info of an episode: small things only, as learners keep infos."""


class OperaVecEnv(VecEnv):
    """Lets Stable-Baselines3 learn in a native vector environment, one-shot or stepwise.

    A step is one batch of tools and one batch of metrics, which as many processes could not have. Ended
    episodes report themselves as Stable-Baselines3's ``Monitor`` would, so no monitor is needed.

    Args:
        envs: Sub-environments that share one world.
        exclude_keys: Keys of a Dict observation that the learner does not look at, and need not be kept.

    Example:
        >>> envs = OperaVecEnv(RestoreVectorEnv(num_envs=4, reward="classic"))
        >>> envs.seed(7)
        [7, 8, 9, 10]
        >>> envs.reset().shape
        (4, 128, 128, 3)
        >>> _, rewards, dones, infos = envs.step(np.zeros((4, 6), np.int64))
        >>> rewards.dtype.name, dones.all(), infos[0]["episode"]["l"], infos[0]["plan"]
        ('float32', np.True_, 1, ())
    """

    observation_space: spaces.Space[Any]
    action_space: spaces.Space[Any]

    def __init__(self, envs: RestoreVectorEnv, exclude_keys: Sequence[str] = ()) -> None:
        space = envs.single_observation_space
        absent = set(exclude_keys) - set(space.keys() if isinstance(space, spaces.Dict) else ())
        if absent:
            raise ValueError(
                f"exclude_keys names {', '.join(sorted(absent))}, which no observation has: {space}."
            )
        if isinstance(space, spaces.Dict):
            space = spaces.Dict({key: part for key, part in space.items() if key not in exclude_keys})
        self.envs = envs
        self._actions: NDArray[Any] | None = None
        self._returns = np.zeros(envs.num_envs)
        self._lengths = np.zeros(envs.num_envs, np.int64)
        self._begin = time.perf_counter()
        super().__init__(envs.num_envs, space, envs.single_action_space)

    @property
    def toolbox(self) -> Toolbox:
        """The tools of this world."""
        return self.envs.toolbox

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Sets the seeds of the next reset: one further per group of equal images."""
        first = super().seed(seed)[0]
        assert first is not None
        self._seeds = [first + index // self.envs.group_size for index in range(self.num_envs)]
        return self._seeds

    def reset(self) -> VecEnvObs:
        """Starts all sub-environments, with the seeds and options that were set since the last time."""
        options = self._options[0]
        if any(other != options for other in self._options):
            raise ValueError(
                "the sub-environments start with the same options: set_options(one dictionary)."
            )
        seeds = None if all(seed is None for seed in self._seeds) else self._seeds
        observations, infos = self.envs.reset(seed=seeds, options=options or None)
        self.reset_infos = [
            {key: infos[key][index] for key in _TOLD if key in infos} for index in range(self.num_envs)
        ]
        self._reset_seeds()
        self._reset_options()
        self._returns[:] = 0
        self._lengths[:] = 0
        self._begin = time.perf_counter()
        return self._seen(observations)

    def step_async(self, actions: NDArray[Any]) -> None:
        """Remembers the actions; they are played by :meth:`step_wait`."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Plays one action each; ended episodes have begun anew when it returns."""
        observations, gains, terminated, truncated, told = self.envs.step(self._actions)
        dones = terminated | truncated
        self._returns += gains
        self._lengths += 1
        infos: list[dict[str, Any]] = [{"TimeLimit.truncated": False} for _ in range(self.num_envs)]
        for index in np.flatnonzero(dones):
            last = told["final_info"]
            infos[index] |= {key: last[key][index] for key in _TOLD}
            infos[index]["terminal_observation"] = self._seen(told["final_obs"][index])
            infos[index]["episode"] = {
                "r": round(float(self._returns[index]), 6),
                "l": int(self._lengths[index]),
                "t": round(time.perf_counter() - self._begin, 6),
            }
            self.reset_infos[index] = {key: told[key][index] for key in _TOLD if key in told}
        self._returns[dones] = 0
        self._lengths[dones] = 0
        return self._seen(observations), gains.astype(np.float32), dones, infos

    def _seen(self, observation: Any) -> Any:
        """Returns a batch of observations, or a single one, without what is left out."""
        if not isinstance(self.observation_space, spaces.Dict):
            return observation
        return {key: observation[key] for key in self.observation_space}

    def close(self) -> None:
        self.envs.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Returns an attribute of the shared world once per sub-environment."""
        value = getattr(self.envs, attr_name)
        return [value for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Sets an attribute of the world, for all sub-environments, as they share it."""
        if len(set(self._get_indices(indices))) != self.num_envs:
            raise ValueError(
                f"{attr_name}: the sub-environments share one world, so set it for all of them."
            )
        setattr(self.envs, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Calls a method of the shared world once.

        Returns:
            Each sub-environment's row of the masks for ``action_masks``; else the answer, repeated.
        """
        chosen = list(self._get_indices(indices))
        answer = getattr(self.envs, method_name)(*method_args, **method_kwargs)
        if method_name == "action_masks":
            return [answer[index] for index in chosen]
        return [answer for _ in chosen]

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: VecEnvIndices = None) -> list[bool]:
        """Whether a wrapper's work is done here: that of ``Monitor`` is, as episodes report themselves."""
        return [wrapper_class is Monitor for _ in self._get_indices(indices)]

    def get_images(self) -> Sequence[NDArray[np.uint8] | None]:
        """Returns no pictures: a vector environment draws nothing."""
        return [None] * self.num_envs
