"""Logs statistics of PPO's rollouts and updates to TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sb3_contrib import MaskablePPO
from torch.utils.tensorboard import SummaryWriter


def log_rollout(
    writer: SummaryWriter, model: MaskablePPO, scalars: Mapping[str, float], tool_cost: float
) -> None:
    """Writes the statistics of a rollout and of its update.

    Args:
        writer: Writes to the folder of the run.
        model: The model after the update; its logger and its buffers hold the statistics.
        scalars: Further scalars by tag.
        tool_cost: Cost of each tool, which the rewards contain.
    """
    step = model.num_timesteps
    train_metrics: dict[str, Any] = dict(model.logger.name_to_value)
    model.logger.dump(step)  # clears the stored values
    train_metrics["train/entropy"] = -train_metrics.pop("train/entropy_loss")
    del train_metrics["train/n_updates"]
    episodes = list(model.ep_info_buffer or ())
    for name, value in {**train_metrics, **episode_scalars(episodes, tool_cost), **scalars}.items():
        writer.add_scalar(name, value, step)
    actions = model.rollout_buffer.actions.astype(np.int64).ravel()
    num_actions = int(getattr(model.action_space, "n"))  # noqa: B009 - the type of the space is not known
    writer.add_histogram("rollout/actions", actions, step, bins=np.arange(num_actions + 1) - 0.5)  # pyright: ignore[reportArgumentType]


def episode_scalars(episodes: Sequence[Mapping[str, Any]], tool_cost: float) -> dict[str, float]:
    """Returns the means over the episodes that ended in a rollout, by TensorBoard tag.

    Args:
        episodes: What :class:`~opera_agents.ppo.vec_env.OperaVecEnv` reports of each episode.
        tool_cost: Cost of each tool.

    Returns:
        ``rollout/return``, the gain of an episode: R_q of the result less R_q of the input, less the tool
        cost. ``reward/total``, R_q of the result less the tool cost, which ``val/reward`` measures too.
        Its parts ``reward/r_q`` and ``reward/tool_cost``, and the term ``reward/METRIC`` of each metric in
        R_q. ``rollout/plan_length``, the number of tools, and ``rollout/length``, the number of steps, to
        which STOP belongs. Nothing if no episode ended.
    """
    if not episodes:
        return {}

    def mean(key: str) -> float:
        return float(np.mean([episode[key] for episode in episodes]))

    r_q, cost = mean("r_q"), tool_cost * mean("tools")
    return {
        "rollout/return": mean("r"),
        "rollout/length": mean("l"),
        "rollout/plan_length": mean("tools"),
        "reward/total": r_q - cost,
        "reward/r_q": r_q,
        "reward/tool_cost": cost,
        **{
            f"reward/{name}": float(np.mean([episode["terms"][name] for episode in episodes]))
            for name in episodes[0]["terms"]
        },
    }
