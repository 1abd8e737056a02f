"""Settings with which co-training takes seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from opera_agents.cotraining.config import CotrainingConfig

Configure = Callable[..., CotrainingConfig]


@pytest.fixture
def configure(photos: Path, small_toolbox: Path, tmp_path: Path) -> Configure:
    """Makes a configuration: ``configure(out="a", **settings)``."""

    def make(out: str = "run", **settings: Any) -> CotrainingConfig:
        small: dict[str, Any] = {
            "toolbox": str(small_toolbox),
            "agent": "matched",
            "epochs": 2,
            "steps_per_epoch": 2,
            "batch_size": 4,
            "loss": "pixel",
            "reward": "classic",
            "max_tools": 3,
            "canvas": 64,
            "val_count": 3,
            "threads": 1,
            "device": "cpu",
            "autocast": False,
        }
        named = {"images": (photos,), "val": photos, "out": tmp_path / out}
        return CotrainingConfig(**(named | small | settings))

    return make
