"""Too much processing, as by telephones and by their owners."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from opera_env.degradations.base import Depth, Stage, Uint8Image, to_uint8
from opera_env.degradations.light import blur, luminance
from opera_env.degradations.real.base import RealDegradation

_KINDS = ("sharpened", "smoothed", "smoothed and sharpened", "local contrast")


@dataclass(frozen=True)
class Processing(RealDegradation):
    """Over-sharpening, over-smoothing, one after the other, or too much local contrast."""

    name = "over_processed"
    stage = Stage.SENSOR

    def __call__(self, image: Uint8Image, rng: Generator, depth: Depth | None = None) -> Uint8Image:
        kind = _KINDS[int(rng.integers(len(_KINDS)))]
        result = image.astype(np.float32)
        if "smoothed" in kind:
            result = self._smooth(image, rng)
        if "sharpened" in kind:
            share = 0.6 if "smoothed" in kind else 1.0
            result = sharpen(result, share * self.between(0.15, 4), rng.uniform(0.6, 1.8))
        if kind == "local contrast":
            radius = max(2.0, min(image.shape[:2]) * rng.uniform(0.03, 0.1))
            result = sharpen(result, self.between(0.08, 0.9), radius)
        return to_uint8(result)

    def _smooth(self, image: Uint8Image, rng: Generator) -> NDArray[np.float32]:
        """Smooths everything but strong edges, which gives grass and skin the look of water-colours."""
        tolerance, reach = self.between(4, 55), self.between(1.2, 4)
        smooth = cv2.bilateralFilter(image.astype(np.float32), 0, tolerance, reach)
        share = rng.uniform(0.75, 1)
        return np.asarray(image * (1 - share) + smooth * share, np.float32)


def sharpen(image: NDArray[np.float32], amount: float, radius: float) -> NDArray[np.float32]:
    """Sharpens the brightness of an image by an unsharp mask.

    Args:
        image: Grey levels, float32 (H, W, 3).
        amount: Factor of the difference to the blurred image that is added.
        radius: Standard deviation of the blur in pixels.
    """
    grey = luminance(image)
    return np.asarray(image + amount * (grey - blur(grey, radius))[..., None], np.float32)
