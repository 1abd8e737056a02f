"""Settings with which a critic is trained in seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from opera_agents.critic.config import CriticConfig

Configure = Callable[..., CriticConfig]


@pytest.fixture
def configure(photos: Path, small_toolbox: Path, tmp_path: Path) -> Configure:
    """``configure(out="a", **settings)``."""

    def make(out: str = "run", **settings: Any) -> CriticConfig:
        small: dict[str, Any] = {
            "shards": 2,
            "samples": 4,
            "val_count": 4,
            "steps": 6,
            "photographs_per_batch": 2,
            "images_per_photograph": 3,
            "warmup_steps": 2,
            "val_every": 3,
            "canvas": 64,
            "reward": "classic",
            "toolbox": str(small_toolbox),
            "device": "cpu",
        }
        named = {"images": (photos,), "val": photos, "out": tmp_path / out}
        return CriticConfig(**(named | small | settings))

    return make
