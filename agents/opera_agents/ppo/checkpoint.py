"""Checkpoints of PPO runs. A resumed run ends exactly as an uninterrupted one."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

from sb3_contrib import MaskablePPO

from opera_agents.common.checkpoints import Budget, load_checkpoint, save_checkpoint


@dataclass(frozen=True)
class Progress:
    """The progress of a run.

    Attributes:
        rollouts: Number of finished rollouts.
        budget: Cost of the warm start and of these rollouts.
    """

    rollouts: int = 0
    budget: Budget = field(default_factory=Budget)


def save(path: Path, model: MaskablePPO, progress: Progress) -> None:
    """Writes a checkpoint atomically."""
    state = {
        "policy": model.policy.state_dict(),
        "optimizer": model.policy.optimizer.state_dict(),
        "num_timesteps": model.num_timesteps,
        "n_updates": model._n_updates,
        "progress": asdict(progress),
    }
    save_checkpoint(path, state)


def load(path: Path, model: MaskablePPO) -> Progress | None:
    """Loads a checkpoint into a model; returns its progress, or None if there is no checkpoint."""
    state = load_checkpoint(path, model.device)
    if state is None:
        return None
    model.policy.load_state_dict(state["policy"])
    model.policy.optimizer.load_state_dict(state["optimizer"])
    model.num_timesteps, model._n_updates = state["num_timesteps"], state["n_updates"]
    progress = state["progress"]
    return Progress(progress["rollouts"], Budget(**progress["budget"]))
