"""Steps a second of the vector environment, and what a step costs beside tools and metrics."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import psutil
import torch
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from torch import Tensor, nn

from opera_env.bench.settings import Bench
from opera_env.envs.restore import RestoreEnv
from opera_env.envs.stepwise import StepwiseEnv
from opera_env.envs.vector import RestoreVectorEnv
from opera_env.metrics import FunctionMetric
from opera_env.reward import Reward, Term
from opera_env.tools import Tool, Toolbox

_WORKER_BYTES = 600 * 2**20
"""What a process with torch and one environment takes."""

_ROUNDS, _STEPS = 3, 4


def vector(bench: Bench) -> list[dict[str, Any]]:
    """Random plans in native, synchronous and asynchronous vector environments of 8 and 32.

    In groups of eight, Gymnasium's get the same photographs by equal seeds. The asynchronous one is
    left out where its processes would not fit into memory.
    """
    return [row for count in ((8,) if bench.quick else (8, 32)) for row in _vector(bench, count)]


def _vector(bench: Bench, count: int) -> list[dict[str, Any]]:
    names, device = bench.toolbox.names, str(bench.device)
    bench.progress(f"vector: {count} environments, making them")
    theirs: dict[str, VectorEnv[Any, Any, Any]] = {
        "sync_sps": SyncVectorEnv(
            [partial(RestoreEnv, toolbox=bench.toolbox)] * count, autoreset_mode=AutoresetMode.SAME_STEP
        )
    }
    if psutil.virtual_memory().available > count * _WORKER_BYTES:
        theirs["async_sps"] = AsyncVectorEnv(
            [partial(_one_thread_env, names, device)] * count,
            autoreset_mode=AutoresetMode.SAME_STEP,
            context="forkserver",
        )
    try:
        return [_raced(bench, count, group_size, theirs) for group_size in (1, 8)]
    finally:
        for env in theirs.values():
            env.close()


def _one_thread_env(names: Sequence[str], device: str) -> gym.Env[Any, Any]:
    torch.set_num_threads(1)
    return RestoreEnv(toolbox=Toolbox.load("lite", device).subset(names))


def _raced(
    bench: Bench, count: int, group_size: int, theirs: dict[str, VectorEnv[Any, Any, Any]]
) -> dict[str, Any]:
    """Plays the same random plans in all of them, some steps each in turn."""
    ours = RestoreVectorEnv(count, group_size, toolbox=bench.toolbox)
    envs = {"ours_sps": ours, **theirs}
    seeds = [bench.seed + index // group_size for index in range(count)]
    for env in envs.values():
        env.reset(seed=seeds)
    ours.action_space.seed(bench.seed)
    took = dict.fromkeys(envs, 0.0)
    rounds, steps = (1, 1) if bench.quick else (_ROUNDS, _STEPS)
    for number in range(rounds):
        actions = [ours.action_space.sample() for _ in range(steps + 1)]
        for name, env in envs.items():
            bench.progress(f"vector: {count} by {group_size}, {name[:-4]}, round {number + 1} of {rounds}")
            env.step(actions[0])
            took[name] += bench.seconds(partial(_play, env, actions[1:]))
    rates = {name: rounds * steps * count / seconds for name, seconds in took.items()}
    return {"num_envs": count, "group_size": group_size, **rates}


def _play(env: VectorEnv[Any, Any, Any], actions: Sequence[Any]) -> None:
    for action in actions:
        env.step(action)


class _Nothing(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return image


def _zero(images: Tensor) -> Tensor:
    return images.new_zeros(len(images))


def overhead(bench: Bench) -> dict[str, float]:
    """Milliseconds of a step whose tools and metrics do nothing: median of many, photographs included."""
    bench.progress("overhead of a step")
    tools = Toolbox([Tool(f"nothing.{number}", _Nothing()) for number in range(18)], bench.device)
    reward = Reward("nothing", (Term(FunctionMetric("zero", _zero, worst=0.0), 0, 1, 1),))
    world = {"toolbox": tools, "reward": reward}
    one_shot, stepwise = RestoreEnv(**world), StepwiseEnv(**world)
    times = 12 if bench.quick else 200
    return {
        "one_shot": 1000 * _median_step(bench, one_shot, np.array([1, 2, 3, 4, 5, 6]), times),
        "stepwise": 1000 * _median_step(bench, stepwise, np.int64(1), times),
    }


def _median_step(bench: Bench, env: gym.Env[Any, Any], action: Any, times: int) -> float:
    seconds: list[float] = []
    played: list[tuple[Any, ...]] = []
    for number in range(times):
        if not played or played[-1][2]:
            env.reset(seed=bench.seed + number)
        seconds.append(bench.seconds(lambda: played.append(env.step(action))))
    return float(np.median(seconds))
