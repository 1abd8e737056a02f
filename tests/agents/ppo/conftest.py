"""Small environments for Stable-Baselines3, and the settings of a small training run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from opera_agents.ppo.config import PPOConfig
from opera_agents.ppo.vec_env import OperaVecEnv
from opera_env.data import Source
from opera_env.envs.vector import RestoreVectorEnv, StepwiseVectorEnv
from opera_env.tools import Toolbox

VECTOR_ENVS = {"one-shot": RestoreVectorEnv, "stepwise": StepwiseVectorEnv}

MakeEnvs = Callable[..., OperaVecEnv]


@pytest.fixture
def make_vector_env(source: Source, make_toolbox: Callable[[], Toolbox]) -> Callable[..., RestoreVectorEnv]:
    """``make_vector_env(env_kind, num_envs, **settings)``"""

    def make(env_kind: str, num_envs: int = 4, **settings: Any) -> RestoreVectorEnv:
        small = {"reward": "classic", "source": source, "max_tools": 3, "obs_size": 48}
        return VECTOR_ENVS[env_kind](num_envs, **{"toolbox": make_toolbox()} | small | settings)

    return make


@pytest.fixture
def make_envs(make_vector_env: Callable[..., RestoreVectorEnv]) -> MakeEnvs:
    """``make_envs(env_kind, num_envs, exclude_keys=..., **settings)``"""

    def make(
        env_kind: str, num_envs: int = 4, exclude_keys: tuple[str, ...] = (), **settings: Any
    ) -> OperaVecEnv:
        return OperaVecEnv(make_vector_env(env_kind, num_envs, **settings), exclude_keys)

    return make


@pytest.fixture
def toolbox_folder(tmp_path: Path) -> Path:
    """Three fast tools saved in a folder, because trainers load a toolbox by name or folder."""
    names = ["unet.denoise", "brighten.gamma_correction", "brighten.constant_shift"]
    Toolbox.load("lite").subset(names).save(tmp_path / "toolbox")
    return tmp_path / "toolbox"


@pytest.fixture
def tiny_config(photos: Path, toolbox_folder: Path, tmp_path: Path) -> PPOConfig:
    """Settings of four rollouts of 24 steps, with a checkpoint after each."""
    return PPOConfig(
        images=(photos,),
        val=photos,
        out=tmp_path / "run",
        total_timesteps=4 * 24,
        warm_start_steps=2,
        warm_start_batch_size=3,
        num_envs=4,
        n_steps=6,
        batch_size=12,
        reward="classic",
        max_tools=2,
        toolbox=str(toolbox_folder),
        canvas=64,
        obs_size=32,
        save_every=1,
        val_every=2,
        val_count=3,
        threads=1,
        device="cpu",
    )
