"""Batches: photographs, groups of decisions about them, and what became of the plans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from opera_agents.common.batches import observe_batch
from opera_agents.planner import grpo
from opera_agents.planner.agent import Planner
from opera_agents.planner.config import PlannerConfig
from opera_agents.planner.policy import LogProbs, SampledPlans
from opera_env.scoring import PlanScorer
from opera_env.types import Decision, Outcome, Sample


@dataclass(frozen=True)
class Batch:
    """What one update learns from.

    Attributes:
        images: What the policy saw, float32 (photographs, 3, H, W).
        draft: What it decided, group by group, (photographs * group, ...).
        before: How likely that was.
        decisions: The same in words.
        outcomes: What became of the plans.
        paired: What each plan earns with each set of its group, (photographs, G, G).
    """

    images: Tensor
    draft: SampledPlans
    before: LogProbs
    decisions: list[Decision]
    outcomes: list[Outcome]
    paired: Tensor


def collect_rollout(
    planner: Planner, scorer: PlanScorer, samples: Sequence[Sample], config: PlannerConfig, seed: int
) -> Batch:
    """Draws a group of decisions for each photograph and has the plans run and judged."""
    policy, group = planner.policy, config.group
    images = observe_batch(samples, config.max_tools, policy.position.device)
    with torch.no_grad():
        seen = policy.encode(images).repeat_interleave(group, 0)
        draft = policy.sample(seen, torch.Generator().manual_seed(seed))
        before = policy.likelihood(seen, draft)
    decisions = planner.read(draft)
    repeated = [sample for sample in samples for _ in range(group)]
    outcomes = scorer.score(repeated, [decision.plan for decision in decisions], restored=False)
    paired = [
        grpo.rewards(
            outcomes[first : first + group],
            decisions[first : first + group],
            repeated[first].degradations,
            config.form,
            config.tool_cost,
        )
        for first in range(0, len(outcomes), group)
    ]
    return Batch(images, draft, before, decisions, outcomes, torch.stack(paired))
