"""Rewards as a user would write them in a module, which commands and trainers find by name."""

from __future__ import annotations

from torch import Tensor

from opera_env.metrics import FunctionMetric
from opera_env.reward import Reward, RewardTerm


def mean_level(images: Tensor) -> Tensor:
    return images.mean((1, 2, 3))


BRIGHT = Reward("bright", (RewardTerm(FunctionMetric("mean_level", mean_level, worst=0.0), 0, 1, 10),))
"""R_q is ten times the mean of the result, so that the brightest plan is the best."""

NOT_A_REWARD = 3


def make_bright() -> Reward:
    return BRIGHT
