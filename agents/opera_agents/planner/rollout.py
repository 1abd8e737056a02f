"""Batches: photographs, groups of decisions about them, and what became of the plans."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from opera_agents.planner import grpo
from opera_agents.planner.agent import Planner
from opera_agents.planner.config import PlannerConfig
from opera_agents.planner.policy import LogProbs, SampledPlans
from opera_env.data import Source
from opera_env.envs.observation import Episode, observe
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
    """

    images: Tensor
    draft: SampledPlans
    before: LogProbs
    decisions: list[Decision]
    outcomes: list[Outcome]
    paired: Tensor


def draw_samples(source: Source, count: int, seed: Sequence[int]) -> list[Sample]:
    """Draws photographs: a function of the seed."""
    rng = np.random.default_rng(seed)
    return [source.make(source.draw(rng)) for _ in range(count)]


def prefetch(make: Callable[[int], Made], steps: range, workers: int = 0) -> Iterator[Made]:
    """Yields ``make(step)`` for each step; the next ones are made in the background while one is in use.

    Args:
        make: A function of the step alone.
        steps: Which.
        workers: Processes that make them, for a GPU that would wait for one thread; 0 for that thread.
            Where processes cannot be forked, 0 is all there is.
    """
    if workers:
        # Forked: what ``make`` refers to need not be pickled.
        options: dict[str, Any] = {"num_workers": workers, "multiprocessing_context": "fork"}
        yield from DataLoader(
            _PrefetchDataset(make, steps), batch_size=None, collate_fn=_identity, **options
        )
        return
    with ThreadPoolExecutor(1) as background:
        futures = deque(background.submit(make, step) for step in steps[:1])
        for step in steps:
            if step + steps.step in steps:
                futures.append(background.submit(make, step + steps.step))
            yield futures.popleft().result()


class _PrefetchDataset(Dataset[Any]):
    """What is made, by number."""

    def __init__(self, make: Callable[[int], Any], steps: range) -> None:
        self.make, self.steps = make, steps

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, index: int) -> Any:
        return self.make(self.steps[index])


def _identity(made: Any) -> Any:
    return made


def observe_batch(samples: Sequence[Sample], max_tools: int, device: torch.device) -> Tensor:
    """Returns what an agent sees of equally large samples, (B, 3, H, W)."""
    images = [observe(Episode(sample), max_tools).image for sample in samples]
    return torch.stack(images).to(device, memory_format=torch.channels_last)


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
