"""How far a run has come, as files: from which it goes on as if it had never stopped."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

from sb3_contrib import MaskablePPO

from opera_agents.common.checkpoints import Budget, load_checkpoint, save_checkpoint


@dataclass(frozen=True)
class Progress:
    """How far a run has come.

    Attributes:
        rollouts: Finished rollouts.
        budget: What they cost.
    """

    rollouts: int = 0
    budget: Budget = field(default_factory=Budget)


def save(path: Path, model: MaskablePPO, progress: Progress) -> None:
    """Writes a checkpoint so that a kill at any time leaves the old one or the new one."""
    state = {
        "policy": model.policy.state_dict(),
        "optimizer": model.policy.optimizer.state_dict(),
        "num_timesteps": model.num_timesteps,
        "n_updates": model._n_updates,
        "progress": asdict(progress),
    }
    save_checkpoint(path, state)


def restore(path: Path, model: MaskablePPO) -> Progress:
    """Brings a model to where :func:`save` left it."""
    state = load_checkpoint(path, model.device)
    assert state is not None
    model.policy.load_state_dict(state["policy"])
    model.policy.optimizer.load_state_dict(state["optimizer"])
    model.num_timesteps, model._n_updates = state["num_timesteps"], state["n_updates"]
    progress = state["progress"]
    return Progress(progress["rollouts"], Budget(**progress["budget"]))
