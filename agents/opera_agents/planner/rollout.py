"""Batches: photographs, groups of decisions about them, and what became of the plans."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from opera_agents.planner import grpo
from opera_agents.planner.agent import Planner
from opera_agents.planner.config import PlannerConfig
from opera_agents.planner.policy import Draft, Likelihood
from opera_agents.planner.variants import Proposals, Variants, vary
from opera_env.data import Source
from opera_env.envs.world import Episode, observe
from opera_env.scoring import PlanScorer
from opera_env.types import Decision, Outcome, Sample

Made = TypeVar("Made")


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
        variants: Plans with one thing changed; None if there are none.
    """

    images: Tensor
    draft: Draft
    before: Likelihood
    decisions: list[Decision]
    outcomes: list[Outcome]
    paired: Tensor
    variants: Variants | None = None


def draw_samples(source: Source, count: int, seed: Sequence[int]) -> list[Sample]:
    """Draws photographs: a function of the seed."""
    rng = np.random.default_rng(seed)
    return [source.make(source.draw(rng)) for _ in range(count)]


def made_ahead(make: Callable[[int], Made], steps: range) -> Iterator[Made]:
    """Yields ``make(step)`` for each step; the next is made in the background while one is in use."""
    with ThreadPoolExecutor(1) as background:
        futures = deque(background.submit(make, step) for step in steps[:1])
        for step in steps:
            if step + steps.step in steps:
                futures.append(background.submit(make, step + steps.step))
            yield futures.popleft().result()


def see(samples: Sequence[Sample], max_tools: int, device: torch.device) -> Tensor:
    """Returns what an agent sees of equally large samples, (B, 3, H, W)."""
    images = [observe(Episode(sample), max_tools).image for sample in samples]
    return torch.stack(images).to(device, memory_format=torch.channels_last)


def roll_out(
    planner: Planner,
    scorer: PlanScorer,
    samples: Sequence[Sample],
    config: PlannerConfig,
    proposals: Proposals,
    seed: int,
) -> Batch:
    """Draws a group of decisions for each photograph, varies some, and has the plans run and judged."""
    policy, group, count = planner.policy, config.group, config.variants
    images = see(samples, config.max_tools, policy.position.device)
    with torch.no_grad():
        described = policy.describe(images)
        seen = described.repeat_interleave(group, 0)
        draft = policy.sample(seen, torch.Generator().manual_seed(seed))
        before = policy.likelihood(seen, draft)
    changed, tried = vary(draft, group, count, proposals, np.random.default_rng(seed))
    decisions, others = planner.read(draft), planner.read(changed)
    asked = [sample for sample in samples for _ in range(group)]
    asked += [sample for sample in samples for _ in range(count)]
    outcomes = scorer.score(asked, [decision.plan for decision in decisions + others], restored=False)
    outcomes, of_variants = outcomes[: len(decisions)], outcomes[len(decisions) :]

    paired, compared = list[Tensor](), list[Tensor]()
    for number, sample in enumerate(samples):
        mine = slice(number * group, (number + 1) * group)
        theirs = slice(number * count, (number + 1) * count)
        rules = sample.degradations, config.form, config.tool_cost
        paired.append(grpo.rewards(outcomes[mine], decisions[mine], *rules))
        compared.append(grpo.rewards(of_variants[theirs], others[theirs], *rules, sets=decisions[mine]))
    variants = None
    if count:
        better = grpo.improvements(torch.stack(paired), torch.stack(compared))
        with torch.no_grad():
            likely = policy.likelihood(described.repeat_interleave(count, 0), changed)
        variants = Variants(changed, tried, likely, better)
    return Batch(images, draft, before, decisions, outcomes, torch.stack(paired), variants)
