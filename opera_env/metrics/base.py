"""What a metric is: a number an image gets, with a direction and a value for when it fails."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Features = tuple[Tensor, ...]
"""What a metric keeps of a reference, each with a leading batch axis."""


class Metric(ABC):
    """Judges images, in batches.

    Attributes:
        name: How rewards and tables call it.
        higher_is_better: Its direction.
        worst: The value an image gets when the metric is not finite.
        needs_reference: Whether it compares with the clean image.
        min_side: The smallest height and width it can judge.
        concurrent: Whether several threads may call it at once: it keeps nothing of a call.
    """

    name: str
    higher_is_better: bool
    worst: float
    needs_reference: bool = False
    min_side: int = 1
    concurrent: bool = False

    def features(self, reference: Tensor) -> Features:
        """Computes once what the metric needs of references.

        Args:
            reference: float32 (B, 3, H, W) in [0, 1], multiples of 1 / 255.
        """
        return ()

    @abstractmethod
    def values(self, images: Tensor, reference: Features) -> Tensor:
        """Judges a batch.

        Args:
            images: float32 (B, 3, H, W) in [0, 1], multiples of 1 / 255.
            reference: What :meth:`features` gave, for a batch of B or of 1; empty for a
                metric without reference.

        Returns:
            float (B,); not finite where the metric is not defined.
        """

    def to(self, device: torch.device) -> Metric:
        """Moves the metric's networks, if it has any; returns itself."""
        for value in vars(self).values():
            if isinstance(value, nn.Module):
                value.to(device)
        return self


@dataclass(eq=False)
class FunctionMetric(Metric):
    """A metric made of a function: the way to bring one's own.

    Args:
        name: How rewards and tables will call it.
        function: ``function(images)`` or, with ``needs_reference``, ``function(images,
            references)``; float32 (B, 3, H, W) in [0, 1] to (B,).
        worst: The value an image gets when the function's is not finite.
        higher_is_better: Its direction.
        needs_reference: Whether the function takes references.
        min_side: The smallest height and width it can judge.

    Example:
        >>> light = FunctionMetric("light", lambda images: images.mean((1, 2, 3)), worst=0.0)
        >>> light.values(torch.ones(2, 3, 8, 8), ()).tolist()
        [1.0, 1.0]
    """

    name: str
    function: Callable[..., Tensor]
    worst: float
    higher_is_better: bool = True
    needs_reference: bool = False
    min_side: int = 1

    def features(self, reference: Tensor) -> Features:
        return (reference,) if self.needs_reference else ()

    def values(self, images: Tensor, reference: Features) -> Tensor:
        if not self.needs_reference:
            return self.function(images)
        return self.function(images, reference[0].expand_as(images))
