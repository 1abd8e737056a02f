"""Settings with which the planner's trainer takes seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from opera_agents.planner.config import PlannerConfig
from opera_agents.planner.reward_table import RewardTableConfig

Configure = Callable[..., PlannerConfig]
ConfigureTable = Callable[..., RewardTableConfig]


@pytest.fixture
def configure(photos: Path, small_toolbox: Path, tmp_path: Path) -> Configure:
    """Makes a configuration: ``configure(out="a", **settings)``."""

    def make(out: str = "run", **settings: Any) -> PlannerConfig:
        small: dict[str, Any] = {
            "warm_start_steps": 4,
            "warm_start_batch_size": 4,
            "updates": 4,
            "batch_size": 2,
            "group_size": 4,
            "n_epochs": 2,
            "reward": "classic",
            "max_tools": 3,
            "canvas": 64,
            "save_every": 2,
            "val_every": 2,
            "val_count": 3,
            "threads": 1,
            "device": "cpu",
            "toolbox": str(small_toolbox),
        }
        named = {"images": (photos,), "val": photos, "out": tmp_path / out}
        return PlannerConfig(**(named | small | settings))

    return make


@pytest.fixture
def configure_table(photos: Path, small_toolbox: Path, tmp_path: Path) -> ConfigureTable:
    """Makes the configuration of a small table of rewards: ``configure_table(**settings)``."""

    def make(**settings: Any) -> RewardTableConfig:
        small: dict[str, Any] = {
            "shards": 2,
            "samples": 3,
            "candidates": 5,
            "refined": 2,
            "canvas": 64,
            "max_tools": 3,
            "reward": "classic",
            "enlarged": False,
            "toolbox": str(small_toolbox),
        }
        return RewardTableConfig((photos,), tmp_path / "table", **(small | settings))

    return make
