"""The vector environments of this package as a ``VecEnv`` of Stable-Baselines3."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
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

_INFO_KEYS = ("plan", "degradations", "r_q")
"""Keys of an episode's last info that are passed on: small values only, because algorithms store infos."""


class OperaVecEnv(VecEnv):
    """Wraps a vector environment of this package, one-shot or stepwise, for Stable-Baselines3.

    One step runs the tools of all sub-environments as one batch and computes their metrics as one batch,
    which is faster than one process for each sub-environment. Finished episodes report their return and
    length as Stable-Baselines3's ``Monitor`` does, so no monitor is needed; beside them ``r_q`` and
    ``terms`` of the result, and the number of ``tools`` of the plan.

    Args:
        envs: The vector environment; its sub-environments share a toolbox and a scorer.
        exclude_keys: Keys of a ``Dict`` observation to leave out, which saves memory in rollout buffers.

    Raises:
        ValueError: If ``exclude_keys`` has a key that observations lack.

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
                f"exclude_keys names {', '.join(sorted(absent))}, which observations lack: {space}."
            )
        if isinstance(space, spaces.Dict):
            space = spaces.Dict(
                {key: subspace for key, subspace in space.items() if key not in exclude_keys}
            )
        self.envs = envs
        self._actions: NDArray[Any] | None = None
        self._returns = np.zeros(envs.num_envs)
        self._lengths = np.zeros(envs.num_envs, np.int64)
        self._start_time = time.perf_counter()
        super().__init__(envs.num_envs, space, envs.single_action_space)

    @property
    def toolbox(self) -> Toolbox:
        """The toolbox of the environment."""
        return self.envs.toolbox

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Sets the seeds of the next reset: ``seed``, ``seed + 1``, ... for each group of equal images."""
        first_seed = super().seed(seed)[0]
        assert first_seed is not None
        self._seeds = [first_seed + index // self.envs.group_size for index in range(self.num_envs)]
        return self._seeds

    def reset(self) -> VecEnvObs:
        """Resets all sub-environments with the seeds and options that were set since the last reset.

        Raises:
            ValueError: If the options differ between sub-environments.
        """
        options = self._options[0]
        if any(other != options for other in self._options):
            raise ValueError(
                "the sub-environments start with the same options: set_options(one dictionary)."
            )
        seeds = None if all(seed is None for seed in self._seeds) else self._seeds
        observations, infos = self.envs.reset(seed=seeds, options=options or None)
        self.reset_infos = [
            {key: infos[key][index] for key in _INFO_KEYS if key in infos} for index in range(self.num_envs)
        ]
        self._reset_seeds()
        self._reset_options()
        self._returns[:] = 0
        self._lengths[:] = 0
        self._start_time = time.perf_counter()
        return self._without_excluded(observations)

    def step_async(self, actions: NDArray[Any]) -> None:
        """Stores the actions, which :meth:`step_wait` executes."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Executes one action in each sub-environment and resets those whose episode has ended."""
        observations, rewards, terminated, truncated, vector_infos = self.envs.step(self._actions)
        dones = terminated | truncated
        self._returns += rewards
        self._lengths += 1
        infos: list[dict[str, Any]] = [{"TimeLimit.truncated": False} for _ in range(self.num_envs)]
        for index in np.flatnonzero(dones):
            final_info = vector_infos["final_info"]
            terms = {name: float(values[index]) for name, values in _values(final_info["terms"])}
            infos[index] |= {key: final_info[key][index] for key in _INFO_KEYS}
            infos[index]["terminal_observation"] = self._without_excluded(vector_infos["final_obs"][index])
            infos[index]["episode"] = {
                "r": round(float(self._returns[index]), 6),
                "l": int(self._lengths[index]),
                "t": round(time.perf_counter() - self._start_time, 6),
                "r_q": float(final_info["r_q"][index]),
                "terms": terms,
                "tools": len(final_info["plan"][index]),
            }
            self.reset_infos[index] = {
                key: vector_infos[key][index] for key in _INFO_KEYS if key in vector_infos
            }
        self._returns[dones] = 0
        self._lengths[dones] = 0
        return self._without_excluded(observations), rewards.astype(np.float32), dones, infos

    def _without_excluded(self, observation: Any) -> Any:
        """Returns one observation or a batch without the excluded keys."""
        if not isinstance(self.observation_space, spaces.Dict):
            return observation
        return {key: observation[key] for key in self.observation_space}

    def close(self) -> None:
        self.envs.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Returns an attribute of the vector environment, repeated for each sub-environment."""
        value = getattr(self.envs, attr_name)
        return [value for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Sets an attribute of the vector environment, which all sub-environments share.

        Raises:
            ValueError: If ``indices`` selects only some sub-environments.
        """
        if len(set(self._get_indices(indices))) != self.num_envs:
            raise ValueError(
                f"the sub-environments share the attribute {attr_name!r}: set it for all of them."
            )
        setattr(self.envs, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Calls a method of the vector environment once.

        Returns:
            For ``action_masks``, the mask of each sub-environment; otherwise the result, repeated.
        """
        selected = list(self._get_indices(indices))
        result = getattr(self.envs, method_name)(*method_args, **method_kwargs)
        if method_name == "action_masks":
            return [result[index] for index in selected]
        return [result for _ in selected]

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: VecEnvIndices = None) -> list[bool]:
        """Returns whether a wrapper is unnecessary; ``Monitor`` is, because episodes report themselves."""
        return [wrapper_class is Monitor for _ in self._get_indices(indices)]

    def get_images(self) -> Sequence[NDArray[np.uint8] | None]:
        """Returns the frame of each sub-environment; None without ``render_mode="rgb_array"``."""
        if self.envs.render_mode is None:
            return [None] * self.num_envs
        return list(self.envs.render() or ())


def _values(infos: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Returns the entries of a stacked info without the masks that Gymnasium adds as ``_name``."""
    return [(name, values) for name, values in infos.items() if not name.startswith("_")]
