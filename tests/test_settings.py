"""Numeric settings are finite and in range, or refused with the name of the option."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any

import pytest

from opera_env.errors import SettingError
from opera_env.runs import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Probability,
    Range,
    check_settings,
)


@dataclass(frozen=True)
class Config:
    """A trainer's settings."""

    name: str = "run"
    enlarged: bool = False
    steps: PositiveInt = 1
    seed: NonNegativeInt = 0
    lr: NonNegativeFloat = 0.0
    temperature: PositiveFloat = 0.5
    misuse_prob: Probability = 1.0
    crop_size: PositiveInt | None = None
    count_weights: Annotated[tuple[float, float], Range(0)] = (1.0, 3.0)
    anything: float = -1.0

    def __post_init__(self) -> None:
        check_settings(self)


def test_settings_in_range_are_accepted() -> None:
    Config()
    Config(steps=5, seed=3, lr=1e-3, misuse_prob=0.0, crop_size=96, count_weights=(0.0, 1.0))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("steps", 0, "--steps 0: expected a number of at least 1."),
        ("seed", -1, "--seed -1: expected a number of at least 0."),
        ("lr", math.nan, "--lr nan: expected a number of at least 0."),
        ("lr", math.inf, "--lr inf: expected a number of at least 0."),
        ("temperature", 0.0, "--temperature 0.0: expected a number above 0."),
        ("misuse_prob", 1.5, "--misuse-prob 1.5: expected a number from 0 to 1."),
        ("crop_size", 0, "--crop-size 0: expected a number of at least 1."),
        ("count_weights", (1.0, -2.0), "--count-weights -2.0: expected a number of at least 0."),
        ("anything", math.nan, "--anything nan: expected a finite number."),
    ],
)
def test_other_numbers_are_refused(name: str, value: Any, message: str) -> None:
    with pytest.raises(SettingError) as raised:
        Config(**{name: value})
    assert (str(raised.value), raised.value.name) == (message, name)
