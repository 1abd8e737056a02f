"""The settings of the execution update."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from opera_env.cotraining.differentiable import Checkpointing
from opera_env.cotraining.losses import LossWeights
from opera_env.errors import SettingError
from opera_env.settings import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    UpperBound,
    check_settings,
)


@dataclass(frozen=True)
class ExecutionConfig:
    """Settings of :class:`opera_env.cotraining.ExecutionUpdate`.

    Attributes:
        loss: Name of a loss preset, see :data:`opera_env.cotraining.LOSS_PRESETS`, or loss weights.
        lr: Peak learning rate of every tool. The paper uses 1e-6 for networks of 26 M parameters.
        warmup_steps: Steps of linear warm-up, which protects trained networks from large first steps.
        cosine_decay: Whether the learning rate falls to zero by a cosine over all epochs.
        max_grad_norm: Gradient clipping: largest norm of the gradient of all tools of a step together;
            infinity clips nothing.
        epochs: Number of epochs. The weights of the perceptual losses rise over the first 30 % of them.
        steps_per_epoch: Number of steps of an epoch.
        micro_batch_size: Plans that are run and differentiated together. A larger number needs more memory
            and less time.
        checkpointing: Gradient checkpointing: which activations are computed again instead of kept; see
            :data:`opera_env.cotraining.differentiable.Checkpointing`.
        autocast: Whether the tools compute in bfloat16.
        trainable_tools: Names of the tools that are trained; empty for all tools with parameters.
    """

    loss: str | LossWeights = "lite"
    lr: NonNegativeFloat = 1e-4
    warmup_steps: NonNegativeInt = 0
    cosine_decay: bool = False
    max_grad_norm: UpperBound = 0.5
    epochs: PositiveInt = 20
    steps_per_epoch: PositiveInt = 100
    micro_batch_size: PositiveInt = 8
    checkpointing: Checkpointing = "auto"
    autocast: bool = False
    trainable_tools: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_settings(self)
        if self.checkpointing not in (choices := get_args(Checkpointing)):
            raise SettingError("checkpointing", self.checkpointing, f"one of {', '.join(choices)}")
