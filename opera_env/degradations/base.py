"""The protocol of a degradation: what a custom one must provide."""

from __future__ import annotations

from enum import IntEnum
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray

Uint8Image: TypeAlias = NDArray[np.uint8]
"""An RGB image, uint8 (H, W, 3)."""

Depth: TypeAlias = NDArray[np.float32]
"""A depth map, float32 (H, W) in [0, 1]; 1 is farthest."""


class Stage(IntEnum):
    """The stage of image formation at which a degradation occurs.

    The training recipes apply degradations in the order of their stages; inside a stage any order occurs.
    """

    SCENE = 1
    """Before the camera: weather, light."""
    LENS = 2
    """In the lens: blur, vignetting, chromatic aberration."""
    SENSOR = 3
    """On the sensor and after it: noise, resolution, compression."""


@runtime_checkable
class Degradation(Protocol):
    """A degradation of images, from which others of its kind can be drawn.

    Attributes:
        name: Label of the degradation in recipes and samples: an identifier such as ``"salt_and_pepper"``.
        stage: Stage of image formation, which decides the place of the degradation in training recipes.

    All randomness comes from the generators passed to ``draw`` and ``__call__``, never from global state:
    equal seeds then give equal bits on every worker. To reach worker processes, a custom degradation
    must be picklable, that is, its class must be defined at the top level of a module.

    Example:
        >>> class SaltAndPepper:
        ...     name, stage = "salt_and_pepper", Stage.SENSOR
        ...
        ...     def __init__(self, fraction=0.05):
        ...         self.fraction = fraction
        ...
        ...     def draw(self, rng):
        ...         return SaltAndPepper(rng.uniform(0.01, 0.1))
        ...
        ...     def __call__(self, image, rng, depth=None):
        ...         mask = rng.random(image.shape[:2]) < self.fraction
        ...         value = rng.choice(np.array([0, 255], np.uint8), image.shape[:2])
        ...         return np.where(mask[..., None], value[..., None], image)
        >>> isinstance(SaltAndPepper(), Degradation)
        True
    """

    name: str
    stage: Stage

    @classmethod
    def draw(cls, rng: Generator) -> Degradation:
        """Returns a degradation of the same kind with parameters drawn from ``rng``.

        It may also be an ordinary method, which draws around the parameters of its instance.
        """
        ...

    def __call__(self, image: Uint8Image, rng: Generator, depth: Depth | None = None) -> Uint8Image:
        """Returns the degraded image.

        Args:
            image: uint8 RGB (H, W, 3), read-only.
            rng: The only source of randomness beside the parameters.
            depth: float32 (H, W) in [0, 1], 1 is farthest; None where no depth map exists.

        Returns:
            uint8 RGB (h, w, 3), a new array; smaller than the image if the degradation lowers resolution.
        """
        ...


DegradationType: TypeAlias = Degradation | type[Degradation]
"""A kind of degradation: an instance, or a class whose ``draw`` is a class method."""


def to_uint8(image: ArrayLike) -> Uint8Image:
    """Rounds grey levels to whole numbers, clips them to [0, 255] and returns them as uint8."""
    return np.clip(np.rint(np.asarray(image)), 0, 255).astype(np.uint8)
