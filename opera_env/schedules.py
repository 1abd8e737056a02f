"""Learning-rate schedules of all trainers, as factors on the peak learning rate. Pure functions.

A trainer multiplies its peak rate by one of them and hands the product to :func:`set_learning_rate` before
each optimizer step. Steps count from 0.

Example:
    >>> [round(warmup_cosine(step, 4, warmup=2), 3) for step in range(4)]
    [0.5, 0.854, 0.5, 0.146]
"""

from __future__ import annotations

import math

import torch


def warmup_factor(step: int, warmup: int) -> float:
    """Returns the factor of a linear warm-up, in (0, 1].

    Adam's first steps have the size of the learning rate whatever the gradient is, which is too large for
    weights that are already trained.

    Args:
        step: The step that is about to be taken.
        warmup: Number of warm-up steps; step ``warmup - 1`` is the first at the full rate. 0 is no warm-up.
    """
    return min(1.0, (step + 1) / max(1, warmup))


def cosine_decay(step: float, total_steps: float, final: float = 0.0) -> float:
    """Returns a factor that falls from 1 to ``final`` along half a cosine.

    Args:
        step: The step that is about to be taken.
        total_steps: Number of steps of the whole run.
        final: Factor at ``total_steps``.
    """
    return (1 + final) / 2 + (1 - final) / 2 * math.cos(math.pi * step / total_steps)


def linear_decay(step: float, total_steps: float, final: float = 0.0) -> float:
    """Returns a factor that falls from 1 to ``final`` along a straight line.

    Args:
        step: The step that is about to be taken.
        total_steps: Number of steps of the whole run.
        final: Factor at ``total_steps``.
    """
    return 1 - (1 - final) * step / total_steps


def warmup_cosine(step: int, total_steps: int, warmup: int = 0, final: float = 0.0) -> float:
    """Returns the product of :func:`warmup_factor` and :func:`cosine_decay`, with their arguments."""
    return warmup_factor(step, warmup) * cosine_decay(step, total_steps, final)


def warmup_linear(step: int, total_steps: int, warmup: int = 0, final: float = 0.0) -> float:
    """Returns the product of :func:`warmup_factor` and :func:`linear_decay`, with their arguments."""
    return warmup_factor(step, warmup) * linear_decay(step, total_steps, final)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Gives every parameter group of an optimizer the same learning rate."""
    for param_group in optimizer.param_groups:
        param_group["lr"] = lr
