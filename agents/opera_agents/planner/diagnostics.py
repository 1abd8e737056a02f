"""Logs statistics of the planner's rollouts to TensorBoard."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from opera_agents.planner.rollout import RolloutBatch
from opera_env.reward import f1_score
from opera_env.tools import Toolbox
from opera_env.types import Outcome, Sample


def log_rollout(
    writer: SummaryWriter,
    rollout: RolloutBatch,
    samples: Sequence[Sample],
    step: int,
    group_size: int,
    toolbox: Toolbox,
) -> None:
    """Writes the mean reward and its terms, and statistics of the sampled plans."""
    plans = [decision.plan for decision in rollout.decisions]
    groups = [plans[start : start + group_size] for start in range(0, len(plans), group_size)]
    predicted_labels = [decision.degradations for decision in rollout.decisions]
    true_labels = [sample.degradations for sample in samples for _ in range(group_size)]
    f1_scores = [
        f1_score(predicted or frozenset(), actual or frozenset())
        for predicted, actual in zip(predicted_labels, true_labels, strict=True)
    ]
    scalars = dict(_mean_terms(rollout.outcomes))
    scalars |= {
        "reward/total": rollout.pair_rewards.diagonal(dim1=1, dim2=2).mean().item(),
        "reward/r_d": float(np.mean(f1_scores)),
        "rollout/plan_length": float(np.mean([len(plan) for plan in plans])),
        "rollout/distinct_plans": float(np.mean([len(set(group)) for group in groups])),
    }
    for name, value in scalars.items():
        writer.add_scalar(name, value, step)
    if step % 10 == 0:
        indices = np.array([toolbox.names.index(name) for plan in plans for name in plan])
        if len(indices):
            bins = np.arange(len(toolbox) + 1) - 0.5
            writer.add_histogram("rollout/tools", indices, step, bins=bins)  # pyright: ignore[reportArgumentType]


def _mean_terms(outcomes: Sequence[Outcome]) -> Iterator[tuple[str, float]]:
    yield "reward/r_q", float(np.mean([outcome.r_q for outcome in outcomes]))
    for name in outcomes[0].terms:
        yield f"reward/{name}", float(np.mean([outcome.terms[name] for outcome in outcomes]))
