"""Group-relative advantages of the planner's decisions. Pure functions.

Source: equation 12 of the paper. Departure, with credit assignment "paired": the labels and the plan of a
    decision are sampled independently. Every plan of a group is therefore paired with every label set of
    the group, and each plan and each label set gets the mean reward over its pairs. The expected gradient
    is the same, but the advantage of a plan no longer depends on the label set that was sampled with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from opera_env.reward import combined_reward
from opera_env.types import Decision, Outcome

CreditAssignment = Literal["paired", "joint"]

_STD_EPS = 0.1
"""Added to the standard deviation of a group, in units of the reward: differences between decisions that
are about equally good are not scaled up to a full step."""


@dataclass(frozen=True)
class Advantages:
    """Advantages of decisions relative to their groups.

    Attributes:
        label: Advantages of the label sets, (B,).
        plan: Advantages of the plans, (B,); equal to ``label`` with credit assignment "joint".
        reward_std: Standard deviation of the rewards in each group, (groups,).
    """

    label: Tensor
    plan: Tensor
    reward_std: Tensor


def pair_rewards(
    outcomes: Sequence[Outcome],
    decisions: Sequence[Decision],
    true_labels: frozenset[str] | None,
    reward_form: Literal["product", "gated"],
    tool_cost: float,
) -> Tensor:
    """Returns the reward of each plan of a group together with each label set of the group.

    Args:
        outcomes: The outcomes of the G plans.
        decisions: The G decisions.
        true_labels: The degradations of the image; None if they are unknown.
        reward_form: How the parts of the reward are combined.
        tool_cost: Subtracted from R_q for each tool.

    Returns:
        Rewards (G plans, G label sets).
    """
    return torch.tensor(
        [
            [
                combined_reward(
                    outcome,
                    replace(decision, degradations=paired_decision.degradations),
                    true_labels,
                    None,
                    reward_form,
                    tool_cost,
                )
                for paired_decision in decisions
            ]
            for outcome, decision in zip(outcomes, decisions, strict=True)
        ]
    )


def compute_advantages(rewards: Tensor, credit_assignment: CreditAssignment) -> Advantages:
    """Compares the decisions of each group.

    Args:
        rewards: Rewards (groups, G plans, G label sets); those of the sampled decisions are on the
            diagonal.
        credit_assignment: "joint" compares the rewards of the sampled decisions, as the paper does;
            "paired" compares each plan and each label set by its mean reward over all pairs.

    Example:
        >>> rewards = torch.tensor([[[2.0, 0.0], [4.0, 0.0]]])  # the first label set is the right one
        >>> compute_advantages(rewards, "joint").plan.sign().tolist()  # the labels decide
        [1.0, -1.0]
        >>> compute_advantages(rewards, "paired").plan.sign().tolist()
        [-1.0, 1.0]
    """
    sampled_rewards = rewards.diagonal(dim1=1, dim2=2)
    reward_std = sampled_rewards.std(1, correction=0)
    if credit_assignment == "joint":
        joint_advantages = _normalize_by_group(sampled_rewards)
        return Advantages(joint_advantages, joint_advantages, reward_std)
    return Advantages(
        label=_normalize_by_group(rewards.mean(1)),
        plan=_normalize_by_group(rewards.mean(2)),
        reward_std=reward_std,
    )


def _normalize_by_group(values: Tensor) -> Tensor:
    """Subtracts the mean of each group and divides by its deviation, (groups, G) to (groups * G,)."""
    mean, std = values.mean(1, keepdim=True), values.std(1, correction=0, keepdim=True)
    return ((values - mean) / (std + _STD_EPS)).flatten()
