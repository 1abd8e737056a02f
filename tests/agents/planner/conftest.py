"""A trainer's settings so small that it trains in seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from opera_agents.planner.config import PlannerConfig

Configure = Callable[..., PlannerConfig]


@pytest.fixture
def configure(photos: Path, small_toolbox: Path, tmp_path: Path) -> Configure:
    """``configure(out="a", **settings)``."""

    def make(out: str = "run", **settings: Any) -> PlannerConfig:
        small: dict[str, Any] = {
            "warm_steps": 4,
            "warm_batch": 4,
            "updates": 4,
            "photographs": 2,
            "group": 4,
            "epochs": 2,
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
        return PlannerConfig(photos, photos, tmp_path / out, **(small | settings))

    return make
