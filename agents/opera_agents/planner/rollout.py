"""Rollouts of the planner: groups of sampled decisions, their outcomes and their rewards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from opera_agents.common.batches import observe_batch
from opera_agents.planner.advantages import pair_rewards
from opera_agents.planner.agent import Planner
from opera_agents.planner.config import PlannerConfig
from opera_agents.planner.policy import LogProbs, SampledPlans
from opera_env.scoring import PlanScorer
from opera_env.types import Decision, Outcome, Sample


@dataclass(frozen=True)
class RolloutBatch:
    """The data of one update: B samples with a group of G decisions each.

    Attributes:
        images: The observed images, float32 (B, 3, H, W).
        sampled_plans: The decisions, group by group, (B * G, ...).
        old_log_probs: Their log-probabilities under the policy that sampled them.
        decisions: The decisions as names of tools and degradations.
        outcomes: The outcomes of the plans.
        pair_rewards: Reward of each plan with each label set of its group, (B, G plans, G label sets).
    """

    images: Tensor
    sampled_plans: SampledPlans
    old_log_probs: LogProbs
    decisions: list[Decision]
    outcomes: list[Outcome]
    pair_rewards: Tensor


def collect_rollout(
    planner: Planner, scorer: PlanScorer, samples: Sequence[Sample], config: PlannerConfig, seed: int
) -> RolloutBatch:
    """Samples a group of decisions for each sample, and runs and scores their plans.

    Args:
        planner: The agent whose policy decides.
        scorer: Runs and scores the plans.
        samples: The samples, of one size.
        config: The settings of the run.
        seed: Seed of the generator that samples the decisions.
    """
    policy, group_size = planner.policy, config.group_size
    images = observe_batch(samples, config.max_tools, policy.position.device)
    with torch.no_grad():
        features = policy.encode(images).repeat_interleave(group_size, 0)
        sampled_plans = policy.sample(features, torch.Generator().manual_seed(seed))
        old_log_probs = policy.evaluate_actions(features, sampled_plans)
    decisions = planner.decode(sampled_plans)
    repeated_samples = [sample for sample in samples for _ in range(group_size)]
    outcomes = scorer.score(repeated_samples, [decision.plan for decision in decisions], restored=False)
    rewards = [
        pair_rewards(
            outcomes[start : start + group_size],
            decisions[start : start + group_size],
            repeated_samples[start].degradations,
            config.reward_form,
            config.tool_cost,
        )
        for start in range(0, len(outcomes), group_size)
    ]
    return RolloutBatch(images, sampled_plans, old_log_probs, decisions, outcomes, torch.stack(rewards))
