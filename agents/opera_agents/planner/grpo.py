"""Group-relative policy optimisation for decisions of two parts. Pure functions.

Source: equation 12 of the paper. Departure, unless credit is "joint": as set and plan are drawn
    independently, every plan of a group is paired with every set of it, and each part is compared by
    the mean over its pairs. The expectation is the same; a plan is no longer blamed for the set that
    happened to be drawn with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from opera_agents.planner.policy import LogProbs
from opera_env.reward import combined_reward
from opera_env.types import Decision, Outcome

_STD_EPS = 0.1
"""Added to the spread of a group, in points of reward: where all decisions are about as good, the
difference is not blown up to a full step."""


@dataclass(frozen=True)
class Advantages:
    """How much better than its group each decision is.

    Attributes:
        labels: Of the sets, (B,).
        plan: Of the plans, (B,); the same tensor as ``labels`` where credit is joint.
        spread: Standard deviation of the rewards in each group, (groups,).
    """

    labels: Tensor
    plan: Tensor
    spread: Tensor


def rewards(
    outcomes: Sequence[Outcome],
    decisions: Sequence[Decision],
    truth: frozenset[str] | None,
    form: Literal["product", "gated"],
    tool_cost: float,
) -> Tensor:
    """Returns what each plan of a group earns with each set of it, (G plans, G sets)."""
    return torch.tensor(
        [
            [
                combined_reward(
                    outcome, replace(one, degradations=other.degradations), truth, None, form, tool_cost
                )
                for other in decisions
            ]
            for outcome, one in zip(outcomes, decisions, strict=True)
        ]
    )


def compute_advantages(paired: Tensor, credit: Literal["paired", "joint"]) -> Advantages:
    """Compares decisions within their groups.

    Args:
        paired: Rewards (groups, G plans, G sets); the diagonal is what was drawn together.
        credit: "joint" compares what was drawn together, as the paper does; "paired" compares each part
            by its mean over all it could have been drawn with.

    Example:
        >>> paired = torch.tensor([[[2.0, 0.0], [4.0, 0.0]]])  # the first set is right
        >>> advantages(paired, "joint").plan.sign().tolist()  # praises the worse plan for its set
        [1.0, -1.0]
        >>> advantages(paired, "paired").plan.sign().tolist()
        [-1.0, 1.0]
    """
    together = paired.diagonal(dim1=1, dim2=2)
    spread = together.std(1, correction=0)
    if credit == "joint":
        both = _normalise(together)
        return Advantages(both, both, spread)
    return Advantages(_normalise(paired.mean(1)), _normalise(paired.mean(2)), spread)


def _normalise(values: Tensor) -> Tensor:
    """Subtracts each group's mean and divides by its deviation, (groups, G) to (groups * G,)."""
    mean, spread = values.mean(1, keepdim=True), values.std(1, correction=0, keepdim=True)
    return ((values - mean) / (spread + _STD_EPS)).flatten()


@dataclass(frozen=True)
class GRPOLoss:
    """What an update minimises, and how far it has moved.

    Attributes:
        loss: The negated clipped objective, a scalar with gradients.
        clipped: Share of the ratios that were clipped.
        kl: Estimate of the divergence from the policy that drew, in nats.
    """

    loss: Tensor
    clipped: float
    kl: float


def surrogate(
    now: LogProbs, before: LogProbs, better: Advantages, clip: float, credit: Literal["paired", "joint"]
) -> GRPOLoss:
    """Computes the clipped objective of a batch of decisions."""
    if credit == "joint":
        parts = [(now.labels + now.plan - before.labels - before.plan, better.plan)]
    else:
        parts = [(now.plan - before.plan, better.plan), (now.labels - before.labels, better.labels)]
    loss, clipped = torch.zeros(()), torch.zeros(())
    for log_ratio, advantage in parts:
        ratio = log_ratio.exp()
        bounded = ratio.clamp(1 - clip, 1 + clip)
        loss = loss - torch.minimum(ratio * advantage, bounded * advantage).mean()
        clipped = clipped + ((ratio - 1).abs() > clip).float().mean() / len(parts)
    difference = (before.labels + before.plan - now.labels - now.plan).detach()
    return GRPOLoss(loss, clipped.item(), approximate_kl(difference).mean().item())


def approximate_kl(log_ratio: Tensor) -> Tensor:
    """Estimates KL(p || q) from log(q / p) at draws from p; never negative.

    Source: the estimator of GRPO, exp(r) - r - 1.
    """
    return log_ratio.exp() - log_ratio - 1
