"""Random generators of the trainers: every draw is a function of the seed, the stage and the step.

No generator's state has to be kept in a checkpoint for a resumed run to continue exactly.
"""

from __future__ import annotations

from enum import IntEnum, unique

import numpy as np


@unique
class SeedStage(IntEnum):
    """The part of training that draws: two stages of one seed never share a generator.

    The values are part of every key that a generator is made from: changing one changes what is drawn, and
    trained weights can then no longer be reproduced.
    """

    PLANNER_WARM_START = 0
    PLANNER_GRPO = 1
    COTRAINING = 2
    VLM_WARM_START = 3
    VLM_GRPO = 4
    PPO_WARM_START = 5
    PPO_ROLLOUT = 6
    CRITIC_COLLECTION = 7
    CRITIC_TRAINING = 8
    REWARD_TABLE = 9
    DETECTOR = 10
    PLANNER_IMITATION = 11
    RL_RESTORE_ROLLOUT = 12


def make_rng(seed: int, stage: SeedStage, step: int, stream: int = 0) -> np.random.Generator:
    """Returns the generator of a step.

    Keys always have four parts. NumPy pads keys with zeros, so that keys of different lengths, such as
    (seed, stage) and (seed, stage, 0), would give the same generator.

    Args:
        seed: The seed of the run, at least 0.
        stage: The part of training that draws.
        step: The step, update, shard or row, from 0.
        stream: Tells several independent generators of one step apart.
    """
    return np.random.default_rng(_key(seed, stage, step, stream))


def make_seed(seed: int, stage: SeedStage, step: int, stream: int = 0) -> int:
    """Returns a 32-bit seed for a library that makes its own generators; arguments as :func:`make_rng`."""
    return int(np.random.SeedSequence(_key(seed, stage, step, stream)).generate_state(1)[0])


def rollout_seed(seed: int, update: int) -> int:
    """Returns the seed of the torch generator that samples the plans of one update of the planner."""
    return seed * 1_000_003 + update


def _key(seed: int, stage: SeedStage, step: int, stream: int) -> tuple[int, int, int, int]:
    return seed, int(stage), step, stream
