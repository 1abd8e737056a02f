"""Samples of a table of rewards in GRPO: no tool runs for them, and their policy gradient is exact.

Source: a departure from the paper, whose groups are sampled. The group of a sample of the table is the set
    of its candidate plans, whose rewards are known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor
from torch.nn import functional as F

from opera_agents.common.batches import label_targets, observe_batch
from opera_agents.planner.config import PlannerConfig
from opera_agents.planner.loss import expected_reward_loss
from opera_agents.planner.policy import PlanPolicy
from opera_agents.planner.reward_table import RewardTable
from opera_env.data import Source
from opera_env.errors import RunError
from opera_env.plan import STOP
from opera_env.runs import SETTINGS_FILE, read_settings
from opera_env.types import Sample


@dataclass(frozen=True)
class TableBatch:
    """Samples of a table with their candidate plans.

    Attributes:
        samples: The B samples.
        images: The observed images, float32 (B, 3, H, W).
        plans: Their K candidate plans as actions, int64 (B, K, L).
        rewards: R_q of each plan less its cost, float32 (B, K).
        is_candidate: Whether each plan is one of the candidates, bool (B, K); a sample with fewer than K
            candidates repeats the empty plan, which counts once.
    """

    samples: list[Sample]
    images: Tensor
    plans: Tensor
    rewards: Tensor
    is_candidate: Tensor


def check_table(config: PlannerConfig) -> None:
    """Checks that the rewards of a table are those of the run, if GRPO uses its samples.

    Raises:
        RunError: If the table was collected with another reward or another maximum number of tools.
    """
    if not config.num_table_samples:
        return
    assert config.table is not None
    settings = read_settings(config.table / SETTINGS_FILE)
    for name in ("reward", "max_tools"):
        if (found := settings.get(name)) != (expected := getattr(config, name)):
            option = name.replace("_", "-")
            raise RunError(
                f"the table in {config.table} was collected with --{option} {found}, and --table-fraction "
                f"needs one with --{option} {expected}: collect it, or set --table-fraction to 0."
            )


def draw_table_batch(
    table: RewardTable, source: Source, rng: Generator, config: PlannerConfig, device: torch.device
) -> TableBatch:
    """Draws samples of a table and makes them again.

    Args:
        table: The table.
        source: The source from which the table's samples were drawn.
        rng: Draws the samples.
        config: The settings of the run.
        device: Device of the tensors.
    """
    rows = rng.integers(len(table.specs), size=config.num_table_samples)
    samples = [source.make(table.specs[row]) for row in rows]
    plans = torch.from_numpy(table.plans[rows].astype(np.int64))
    lengths = (plans != STOP).sum(2)
    rewards = torch.from_numpy(table.r_q[rows]) - config.tool_cost * lengths
    is_candidate = lengths > 0
    is_candidate[:, 0] = True
    return TableBatch(
        samples,
        observe_batch(samples, config.max_tools, device),
        plans.to(device),
        rewards.to(device),
        is_candidate.to(device),
    )


def table_loss(
    policy: PlanPolicy, batch: TableBatch, labels: Sequence[str], label_coef: float
) -> tuple[Tensor, Tensor]:
    """Computes the loss of samples of a table: that of the plans, and that of the labels.

    The set of degradations is not sampled: its true value is known, as in the label loss of the other
    samples, and with it R_d is 1.

    Args:
        policy: The policy in training.
        batch: The samples.
        labels: All degradations, in the order of the policy's labels.
        label_coef: Coefficient of the label cross-entropy.

    Returns:
        The loss, and the expected reward of the plans, both scalars with gradients.
    """
    count, candidates = batch.rewards.shape
    features = policy.encode(batch.images)
    plan_log_prob = policy.plan_log_prob(
        features.repeat_interleave(candidates, 0), batch.plans.flatten(0, 1)
    ).view(count, candidates)
    plan_loss = expected_reward_loss(plan_log_prob, batch.rewards, batch.is_candidate)
    loss = plan_loss
    if label_coef:
        targets = label_targets(batch.samples, labels).to(features.device)
        label_loss = F.binary_cross_entropy_with_logits(policy.label_logits(features), targets)
        loss = loss + label_coef * label_loss
    return loss, -plan_loss
