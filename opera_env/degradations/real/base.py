"""What the degradations of real photographs have in common: a strength."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from numpy.random import Generator

from opera_env.errors import SampleError

WEAKEST = 0.15
"""Least strength that is drawn; below it a label would name what nobody sees."""


@dataclass(frozen=True)
class RealDegradation:
    """A degradation of a photograph by weather, camera or web, of a given strength.

    All other parameters, such as directions, colours and masks, are drawn when an image is degraded.

    Attributes:
        strength: From 0, barely visible, to 1, severe.

    Raises:
        SampleError: If the strength is not in [0, 1].
    """

    strength: float

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise SampleError(
                f"{type(self).__name__}: expected a strength in [0, 1], found {self.strength}."
            )

    @classmethod
    def draw(cls, rng: Generator) -> Self:
        """Returns a degradation with a strength that is uniform in [:data:`WEAKEST`, 1]."""
        return cls(float(rng.uniform(WEAKEST, 1)))

    def between(self, weak: float, severe: float) -> float:
        """Returns the value of a parameter at this strength.

        Args:
            weak: The positive value at strength 0.
            severe: The positive value at strength 1. The scale between them is logarithmic.
        """
        return float(weak ** (1 - self.strength) * severe**self.strength)
