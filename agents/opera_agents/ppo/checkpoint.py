"""Checkpoints of PPO runs. A resumed run ends exactly as an uninterrupted one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from sb3_contrib import MaskablePPO

from opera_agents.common.checkpoints import Budget, load_checkpoint, not_a_checkpoint, save_checkpoint
from opera_env.errors import error_message


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


def read(path: Path, device: torch.device | str) -> tuple[dict[str, Any], Progress] | None:
    """Reads a checkpoint.

    Args:
        path: The file.
        device: Device of the tensors.

    Returns:
        The state for :func:`restore` and its progress, or None if there is no checkpoint.

    Raises:
        RunError: If the file is damaged, or no checkpoint of this trainer.
    """
    state = load_checkpoint(path, device)
    if state is None:
        return None
    try:
        progress = state["progress"]
        return state, Progress(progress["rollouts"], Budget(**progress["budget"]))
    except (KeyError, TypeError) as error:
        raise not_a_checkpoint(path, error_message(error)[:200]) from error


def restore(path: Path, state: Mapping[str, Any], model: MaskablePPO) -> None:
    """Loads the state that :func:`read` returned into a model with the settings of the run.

    Args:
        path: The file, for errors.
        state: The state.
        model: The model.

    Raises:
        RunError: If the state is that of another model.
    """
    try:
        model.policy.load_state_dict(state["policy"])
        model.policy.optimizer.load_state_dict(state["optimizer"])
        model.num_timesteps, model._n_updates = state["num_timesteps"], state["n_updates"]
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise not_a_checkpoint(path, error_message(error)[:200]) from error
