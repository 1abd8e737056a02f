"""Benchmarks of the environments: steps per second of the vector form, and the overhead of a step."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import psutil
import torch
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from torch import Tensor, nn

from opera_env.bench.context import BenchmarkContext
from opera_env.envs.restore import RestoreEnv
from opera_env.envs.stepwise import StepwiseEnv
from opera_env.envs.vector import RestoreVectorEnv
from opera_env.metrics import FunctionMetric
from opera_env.reward import Reward, RewardTerm
from opera_env.tools import Tool, Toolbox

_WORKER_BYTES = 600 * 2**20
"""Memory of a process with torch and one environment."""

_GROUPS = (1, 8)
_STEPS = 8


def vector(bench: BenchmarkContext) -> list[dict[str, Any]]:
    """Measures random plans in native, synchronous and asynchronous vector environments of 8 and 32.

    In groups of eight, equal seeds give Gymnasium's environments the same photographs. Only one
    environment exists at a time; the native one is measured before and after the others. The asynchronous
    one is left out if its processes would not fit into memory.
    """
    counts, rows = (8,) if bench.quick else (8, 32), []
    for count in counts:
        durations: dict[tuple[int, str], list[float]] = {}
        for name in ("native_sps", "sync_sps", "async_sps", "native_sps"):
            if name == "async_sps" and psutil.virtual_memory().available < count * _WORKER_BYTES:
                continue
            for group_size, seconds in _step_times(bench, name, count).items():
                durations.setdefault((group_size, name), []).extend(seconds)
        for group_size in _GROUPS:
            rates = {
                name: count * len(seconds) / sum(seconds)
                for (size, name), seconds in durations.items()
                if size == group_size
            }
            rows.append({"num_envs": count, "group_size": group_size, **rates})
    return rows


def _step_times(bench: BenchmarkContext, name: str, count: int) -> dict[int, list[float]]:
    """Returns the seconds of each step of one vector environment, by group size."""
    bench.progress(f"vector: {count} environments, {name[:-4]}")
    seconds: dict[int, list[float]] = {}
    gym_env = None if name == "native_sps" else _make_gym_vector_env(bench, name, count)
    try:
        for group_size in _GROUPS:
            env: Any = gym_env or RestoreVectorEnv(count, group_size, toolbox=bench.toolbox)
            env.reset(seed=[bench.seed + index // group_size for index in range(count)])
            env.action_space.seed(bench.seed)
            env.step(env.action_space.sample())
            actions = [env.action_space.sample() for _ in range(1 if bench.quick else _STEPS)]
            seconds[group_size] = [bench.seconds(partial(env.step, action)) for action in actions]
    finally:
        if gym_env is not None:
            gym_env.close()
    return seconds


def _make_gym_vector_env(bench: BenchmarkContext, name: str, count: int) -> VectorEnv[Any, Any, Any]:
    if name == "sync_sps":
        env_fns = [partial(RestoreEnv, toolbox=bench.toolbox)] * count
        return SyncVectorEnv(env_fns, autoreset_mode=AutoresetMode.SAME_STEP)
    make_env = partial(_make_single_thread_env, bench.toolbox_name, bench.toolbox.names, str(bench.device))
    return AsyncVectorEnv([make_env] * count, autoreset_mode=AutoresetMode.SAME_STEP, context="forkserver")


def _make_single_thread_env(toolbox_name: str, names: Sequence[str], device: str) -> gym.Env[Any, Any]:
    if multiprocessing.parent_process() is not None:  # Gymnasium also makes one in this process
        torch.set_num_threads(1)
    return RestoreEnv(toolbox=Toolbox.load(toolbox_name, device).subset(names))


class _Identity(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return image


def _zero(images: Tensor) -> Tensor:
    return images.new_zeros(len(images))


def overhead(bench: BenchmarkContext) -> dict[str, float]:
    """Returns the median milliseconds of a step whose tools and metrics do nothing.

    Every one-shot step has a new sample, so that the time to hash the sample is included.
    """
    bench.progress("overhead of a step")
    tools = Toolbox([Tool(f"nothing.{number}", _Identity()) for number in range(18)], bench.device)
    reward = Reward("nothing", (RewardTerm(FunctionMetric("zero", _zero, worst=0.0), 0, 1, 1),))
    arguments = {"toolbox": tools, "reward": reward}
    one_shot, stepwise = RestoreEnv(**arguments), StepwiseEnv(**arguments)
    num_steps = 12 if bench.quick else 200
    return {
        "one_shot": 1000 * _median_step(bench, one_shot, np.array([1, 2, 3, 4, 5, 6]), num_steps),
        "stepwise": 1000 * _median_step(bench, stepwise, np.int64(1), num_steps),
    }


def _median_step(bench: BenchmarkContext, env: gym.Env[Any, Any], action: Any, num_steps: int) -> float:
    seconds: list[float] = []
    transitions: list[tuple[Any, ...]] = []
    for number in range(num_steps):
        if not transitions or transitions[-1][2]:
            env.reset(seed=bench.seed + number)
        seconds.append(bench.seconds(lambda: transitions.append(env.step(action))))
    return float(np.median(seconds))
