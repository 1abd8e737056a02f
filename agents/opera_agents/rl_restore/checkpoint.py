"""Checkpoints of Q-learning, with the replay buffer. A resumed run ends exactly as an uninterrupted one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from stable_baselines3 import DQN
from stable_baselines3.common.buffers import DictReplayBuffer

from opera_agents.common.checkpoints import not_a_checkpoint, save_checkpoint
from opera_agents.ppo.checkpoint import Progress
from opera_env.errors import error_message

_ARRAYS = ("actions", "rewards", "dones", "timeouts")
_DICTS = ("observations", "next_observations")


def save(path: Path, model: DQN, progress: Progress) -> None:
    """Writes a checkpoint atomically."""
    state = {
        "policy": model.policy.state_dict(),
        "optimizer": model.policy.optimizer.state_dict(),
        "num_timesteps": model.num_timesteps,
        "n_updates": model._n_updates,
        "n_calls": model._n_calls,
        "replay": _replay_state(model),
        "progress": asdict(progress),
    }
    save_checkpoint(path, state)


def restore(path: Path, state: Mapping[str, Any], model: DQN) -> None:
    """Loads the state that :func:`opera_agents.ppo.checkpoint.read` returned into a model.

    Args:
        path: The file, for errors.
        state: The state.
        model: The model, with the settings of the run.

    Raises:
        RunError: If the state is that of another model.
    """
    try:
        model.policy.load_state_dict(state["policy"])
        model.policy.optimizer.load_state_dict(state["optimizer"])
        model.num_timesteps, model._n_updates = state["num_timesteps"], state["n_updates"]
        model._n_calls = state["n_calls"]
        _load_replay(model, state["replay"])
    except (KeyError, TypeError, ValueError, RuntimeError, IndexError) as error:
        raise not_a_checkpoint(path, error_message(error)[:200]) from error


def _buffer(model: DQN) -> DictReplayBuffer:
    assert isinstance(model.replay_buffer, DictReplayBuffer)
    return model.replay_buffer


def _replay_state(model: DQN) -> dict[str, Any]:
    """Returns the transitions in the replay buffer as tensors."""
    buffer = _buffer(model)
    filled = buffer.size()
    state: dict[str, Any] = {"pos": buffer.pos, "full": buffer.full}
    for name in _ARRAYS:
        state[name] = torch.from_numpy(getattr(buffer, name)[:filled])
    for name in _DICTS:
        arrays = getattr(buffer, name)
        state[name] = {key: torch.from_numpy(arrays[key][:filled]) for key in arrays}
    return state


def _load_replay(model: DQN, state: Mapping[str, Any]) -> None:
    """Fills the replay buffer with the transitions of a checkpoint."""
    buffer = _buffer(model)
    buffer.pos, buffer.full = state["pos"], state["full"]
    for name in _ARRAYS:
        getattr(buffer, name)[: len(state[name])] = state[name].cpu().numpy()
    for name in _DICTS:
        arrays = getattr(buffer, name)
        for key in arrays:
            arrays[key][: len(state[name][key])] = state[name][key].cpu().numpy()
