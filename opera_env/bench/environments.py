"""Steps a second of the vector environment, and what a step costs beside tools and metrics."""

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

from opera_env.bench.settings import BenchmarkContext
from opera_env.envs.restore import RestoreEnv
from opera_env.envs.stepwise import StepwiseEnv
from opera_env.envs.vector import RestoreVectorEnv
from opera_env.metrics import FunctionMetric
from opera_env.reward import Reward, RewardTerm
from opera_env.tools import Tool, Toolbox

_WORKER_BYTES = 600 * 2**20
"""What a process with torch and one environment takes."""

_GROUPS = (1, 8)
_STEPS = 8


def vector(bench: BenchmarkContext) -> list[dict[str, Any]]:
    """Random plans in native, synchronous and asynchronous vector environments of 8 and 32.

    In groups of eight, Gymnasium's get the same photographs by equal seeds. Each environment is
    there alone, ours before and after the others. The asynchronous one is left out where its
    processes would not fit into memory.
    """
    counts, rows = (8,) if bench.quick else (8, 32), []
    for count in counts:
        took: dict[tuple[int, str], list[float]] = {}
        for name in ("ours_sps", "sync_sps", "async_sps", "ours_sps"):
            if name == "async_sps" and psutil.virtual_memory().available < count * _WORKER_BYTES:
                continue
            for group_size, seconds in _played(bench, name, count).items():
                took.setdefault((group_size, name), []).extend(seconds)
        for group_size in _GROUPS:
            rates = {
                name: count * len(seconds) / sum(seconds)
                for (size, name), seconds in took.items()
                if size == group_size
            }
            rows.append({"num_envs": count, "group_size": group_size, **rates})
    return rows


def _played(bench: BenchmarkContext, name: str, count: int) -> dict[int, list[float]]:
    """Returns the seconds of steps of one environment, by size of groups."""
    bench.progress(f"vector: {count} environments, {name[:-4]}")
    seconds: dict[int, list[float]] = {}
    theirs = None if name == "ours_sps" else _gymnasium(bench, name, count)
    try:
        for group_size in _GROUPS:
            env: Any = theirs or RestoreVectorEnv(count, group_size, toolbox=bench.toolbox)
            env.reset(seed=[bench.seed + index // group_size for index in range(count)])
            env.action_space.seed(bench.seed)
            env.step(env.action_space.sample())
            actions = [env.action_space.sample() for _ in range(1 if bench.quick else _STEPS)]
            seconds[group_size] = [bench.seconds(partial(env.step, action)) for action in actions]
    finally:
        if theirs is not None:
            theirs.close()
    return seconds


def _gymnasium(bench: BenchmarkContext, name: str, count: int) -> VectorEnv[Any, Any, Any]:
    if name == "sync_sps":
        makers = [partial(RestoreEnv, toolbox=bench.toolbox)] * count
        return SyncVectorEnv(makers, autoreset_mode=AutoresetMode.SAME_STEP)
    return AsyncVectorEnv(
        [partial(_one_thread_env, bench.pool, bench.toolbox.names, str(bench.device))] * count,
        autoreset_mode=AutoresetMode.SAME_STEP,
        context="forkserver",
    )


def _one_thread_env(pool: str, names: Sequence[str], device: str) -> gym.Env[Any, Any]:
    if multiprocessing.parent_process() is not None:  # Gymnasium also makes one here, to see its spaces
        torch.set_num_threads(1)
    return RestoreEnv(toolbox=Toolbox.load(pool, device).subset(names))


class _Nothing(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return image


def _zero(images: Tensor) -> Tensor:
    return images.new_zeros(len(images))


def overhead(bench: BenchmarkContext) -> dict[str, float]:
    """Milliseconds of a step whose tools and metrics do nothing: median of many.

    The sample is new in every one-shot step, so that its digest is part of it.
    """
    bench.progress("overhead of a step")
    tools = Toolbox([Tool(f"nothing.{number}", _Nothing()) for number in range(18)], bench.device)
    reward = Reward("nothing", (RewardTerm(FunctionMetric("zero", _zero, worst=0.0), 0, 1, 1),))
    world = {"toolbox": tools, "reward": reward}
    one_shot, stepwise = RestoreEnv(**world), StepwiseEnv(**world)
    times = 12 if bench.quick else 200
    return {
        "one_shot": 1000 * _median_step(bench, one_shot, np.array([1, 2, 3, 4, 5, 6]), times),
        "stepwise": 1000 * _median_step(bench, stepwise, np.int64(1), times),
    }


def _median_step(bench: BenchmarkContext, env: gym.Env[Any, Any], action: Any, times: int) -> float:
    seconds: list[float] = []
    played: list[tuple[Any, ...]] = []
    for number in range(times):
        if not played or played[-1][2]:
            env.reset(seed=bench.seed + number)
        seconds.append(bench.seconds(lambda: played.append(env.step(action))))
    return float(np.median(seconds))
