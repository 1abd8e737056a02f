"""Rain and haze."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from opera_env.degradations.base import Depth, Stage, Uint8Image, to_uint8
from opera_env.degradations.depth import procedural_depth


@dataclass(frozen=True)
class Rain:
    """Bright streaks, all in one direction.

    Attributes:
        amount: Number of drops: a pixel starts a streak with probability amount / 25600.
            Integer in [50, 100).
        length: Side of the square kernel of a streak, in pixels; integer in [20, 40).
        angle: Direction in degrees from the vertical; integer in [-30, 30).

    Source: the operator of the AgenticIR benchmark, after MiOIR.
    """

    name = "rain"
    stage = Stage.SCENE
    DROP_KERNEL: ClassVar[NDArray[np.float64]] = np.array([[0, 0.1, 0], [0.1, 8, 0.1], [0, 0.1, 0]])

    amount: int
    length: int
    angle: int

    @classmethod
    def draw(cls, rng: Generator) -> Rain:
        return cls(
            amount=int(rng.integers(50, 100)),
            length=int(rng.integers(20, 40)),
            angle=int(rng.integers(-30, 30)),
        )

    def kernel(self) -> NDArray[np.float64]:
        """Returns the kernel of one streak, shape (length, length), not normalised."""
        centre = (self.length / 2, self.length / 2)
        # The diagonal is already at 45 degrees; it is scaled down so that it fits the square.
        rotation = cv2.getRotationMatrix2D(centre, self.angle - 45, 1 - self.length / 100)
        line = cv2.warpAffine(np.eye(self.length), rotation, (self.length, self.length))
        return np.asarray(cv2.GaussianBlur(line, (3, 3), 0), np.float64)

    def streaks(self, shape: tuple[int, int], rng: Generator) -> Uint8Image:
        """Returns the layer of rain, uint8 (H, W), stretched to the range from 0 to 255."""
        drops = rng.uniform(0, 256, shape)
        drops[drops < 256 - 0.01 * self.amount] = 0
        layer = cv2.filter2D(cv2.filter2D(drops, -1, self.DROP_KERNEL), -1, self.kernel())
        low, high = float(layer.min()), float(layer.max())
        if high <= low:
            return np.zeros(shape, np.uint8)
        return ((layer - low) * (255 / (high - low))).astype(np.uint8)

    def __call__(self, image: Uint8Image, rng: Generator, depth: Depth | None = None) -> Uint8Image:
        rain = self.streaks((image.shape[0], image.shape[1]), rng)
        return to_uint8(image.astype(np.float32) + rain[..., None])


@dataclass(frozen=True)
class Haze:
    """The atmospheric scattering model, I = J t + 255 A (1 - t) with t = exp(-beta d).

    Attributes:
        airlight: A in (0.7, 1).
        beta: Density in (0.6, 1.8).

    Source: the operator of the AgenticIR benchmark, after RESIDE. Without a depth map the depth is
        procedural.
    """

    name = "haze"
    stage = Stage.SCENE

    airlight: float
    beta: float

    @classmethod
    def draw(cls, rng: Generator) -> Haze:
        return cls(airlight=float(rng.uniform(0.7, 1)), beta=float(rng.uniform(0.6, 1.8)))

    def __call__(self, image: Uint8Image, rng: Generator, depth: Depth | None = None) -> Uint8Image:
        """Adds haze; ``rng`` is used only where the depth has to be generated."""
        if depth is None:
            depth = procedural_depth(image, rng)
        transmission = np.exp(-self.beta * depth)[..., None]
        return to_uint8(image * transmission + 255 * self.airlight * (1 - transmission))
