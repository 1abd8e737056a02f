"""Plays thousands of episodes with tools of ``lite`` and prints the resident memory as JSON.

The test starts it in new processes: ``python soak.py``.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import gymnasium as gym
import numpy as np
import psutil
import torch

import opera_env  # noqa: F401 - registers the environments
from opera_env.data import bundled
from opera_env.reward import Reward, RewardTerm
from opera_env.tools import Toolbox

TOOLS = {
    "brighten.gamma_correction": 0.35,
    "brighten.constant_shift": 0.35,
    "unet.dejpeg": 0.15,
    "unet.denoise": 0.10,
    "unet.super_resolution_lpips": 0.05,
}
"""Tools and how often they are chosen: often the fast ones."""

PSNR = Reward("psnr", (RewardTerm("psnr_y", 10, 40, 10),))
EPISODES_BETWEEN_MEASUREMENTS = 50


def resident() -> float:
    """Returns the resident memory of this process in MiB."""
    return psutil.Process().memory_info().rss / 2**20


def play(env: gym.Env[Any, Any], rng: np.random.Generator) -> int:
    """Plays an episode of random tools without STOP, and returns their number."""
    env.reset()
    size = env.action_space.shape or ()
    terminated, plan = False, ()
    while not terminated:
        action = 1 + rng.choice(len(TOOLS), size, p=list(TOOLS.values()))
        *_, terminated, _, info = env.step(action)
        plan = info["plan"]
    return len(plan)


def soak(name: str, episodes: int, **options: Any) -> dict[str, Any]:
    """Plays episodes of one environment and returns what they cost."""
    rng, started = np.random.default_rng(0), time.perf_counter()
    toolbox = Toolbox.load("lite").subset(list(TOOLS))
    env = gym.make(name, toolbox=toolbox, obs_size=64, reward=PSNR, **options)
    env.reset(seed=0)
    memory, tools = {"0": resident()}, 0
    for episode in range(1, episodes + 1):
        tools += play(env, rng)
        if episode % EPISODES_BETWEEN_MEASUREMENTS == 0:
            memory[str(episode)] = resident()
    base: Any = env.unwrapped
    cache = base.rules.scorer.executor.cache
    cached = 0 if cache is None else cache._bytes / 2**20
    env.close()
    seconds = time.perf_counter() - started
    return {"memory": memory, "cached": cached, "closed": resident(), "tools": tools, "seconds": seconds}


def main(one_shot_episodes: int, stepwise_episodes: int) -> None:
    """Prints the figures of both environments; the images of 1,000 stepwise episodes exceed the cache."""
    torch.set_num_threads(1)
    one_shot = soak("OPERA-Restore-v0", one_shot_episodes, source=bundled(64), max_tools=3)
    stepwise = soak("OPERA-RestoreStepwise-v0", stepwise_episodes, source=bundled(128), max_tools=6)
    print(json.dumps({"one-shot": one_shot, "stepwise": stepwise}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
