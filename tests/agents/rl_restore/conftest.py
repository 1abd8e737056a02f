"""The settings of a small run of Q-learning."""

from __future__ import annotations

from pathlib import Path

import pytest

from opera_agents.rl_restore.config import RLRestoreConfig
from opera_env.tools import Toolbox


@pytest.fixture
def tiny_config(photos: Path, tmp_path: Path) -> RLRestoreConfig:
    """Settings of four rollouts of 16 steps, with a checkpoint after each; updates begin after the first.

    The replay buffer is smaller than the run, so that its oldest transitions are replaced.
    """
    names = ["unet.denoise", "brighten.gamma_correction", "brighten.constant_shift"]
    Toolbox.load("lite").subset(names).save(tmp_path / "toolbox")
    return RLRestoreConfig(
        images=(photos,),
        val=photos,
        out=tmp_path / "run",
        total_timesteps=4 * 16,
        num_envs=4,
        n_steps=4,
        gradient_steps=2,
        batch_size=8,
        buffer_size=48,
        learning_starts=15,
        target_update_interval=8,
        reward="classic",
        max_tools=2,
        toolbox=str(tmp_path / "toolbox"),
        canvas=64,
        obs_size=32,
        save_every=1,
        val_every=2,
        val_count=3,
        threads=1,
        device="cpu",
    )
