"""What tensorboard shows of a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from opera_agents.planner.rollout import Batch
from opera_env.reward import f1_score
from opera_env.tools import Toolbox
from opera_env.types import Outcome, Sample


def log_rollout(
    writer: SummaryWriter, batch: Batch, samples: Sequence[Sample], step: int, group: int, toolbox: Toolbox
) -> None:
    """Writes what was drawn and what it was worth."""
    plans = [decision.plan for decision in batch.decisions]
    groups = [plans[first : first + group] for first in range(0, len(plans), group)]
    right = [decision.degradations for decision in batch.decisions]
    truth = [sample.degradations for sample in samples for _ in range(group)]
    scalars = dict(_means(batch.outcomes))
    scalars |= {
        "reward/total": batch.paired.diagonal(dim1=1, dim2=2).mean().item(),
        "reward/r_d": float(
            np.mean(
                [
                    f1_score(said or frozenset(), true or frozenset())
                    for said, true in zip(right, truth, strict=True)
                ]
            )
        ),
        "plan/length": float(np.mean([len(plan) for plan in plans])),
        "plan/distinct": float(np.mean([len(set(plans)) for plans in groups])),
    }
    for name, value in scalars.items():
        writer.add_scalar(name, value, step)
    if step % 10 == 0:
        used = [toolbox.names.index(name) for plan in plans for name in plan]
        if used:
            writer.add_histogram("plan/tools", np.array(used), step, bins=np.arange(len(toolbox) + 1) - 0.5)  # pyright: ignore[reportArgumentType]


def _means(outcomes: Sequence[Outcome]) -> Iterator[tuple[str, float]]:
    yield "reward/r_q", float(np.mean([outcome.r_q for outcome in outcomes]))
    for name in outcomes[0].terms:
        yield f"reward/{name}", float(np.mean([outcome.terms[name] for outcome in outcomes]))
