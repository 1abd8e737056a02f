"""The metric protocol: image quality as one number for each image, with a direction."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Features = tuple[Tensor, ...]
"""What a metric computes once from a batch of references: tensors with a leading batch axis."""


class Metric(ABC):
    """An image quality metric on batches of images.

    To use a metric of your own, wrap a function with :class:`FunctionMetric`. Subclass this class if part
    of the computation depends on the reference alone: :meth:`features` computes that part once, and
    :meth:`values` reuses it for all restored images that belong to the reference. Either kind of metric can
    be a term of a reward, see :class:`opera_env.reward.RewardTerm`.

    Rewards and benchmarks call metrics through :class:`opera_env.metrics.MetricSuite`, without gradients,
    in float32 without autocast, with images that are multiples of 1 / 255.

    Attributes:
        name: Name in rewards and tables; letters, digits and underscores.
        higher_is_better: Direction of the metric.
        worst: The value of an image for which the metric is not finite. It should be worse than that of
            any real image, so that a failure never raises a reward.
        needs_reference: Whether the metric compares images with their references.
        min_side: Smallest height and width in pixels that the metric accepts.
        concurrent: Whether several threads may call the metric at the same time. False is always safe.

    Example:
        >>> class Contrast(Metric):
        ...     name, higher_is_better, worst = "contrast", True, 0.0
        ...
        ...     def values(self, images, reference):
        ...         return images.std(dim=(1, 2, 3))
        >>> Contrast().values(torch.ones(2, 3, 8, 8), ()).tolist()
        [0.0, 0.0]
    """

    name: str
    higher_is_better: bool
    worst: float
    needs_reference: bool = False
    min_side: int = 1
    concurrent: bool = False

    def features(self, reference: Tensor) -> Features:
        """Computes, once for each reference, what :meth:`values` needs of it.

        Args:
            reference: float32 (B, 3, H, W), RGB in [0, 1], multiples of 1 / 255.

        Returns:
            Any number of tensors whose first axis has length B, on the same device. The default, for
            metrics without reference, is the empty tuple.
        """
        return ()

    @abstractmethod
    def values(self, images: Tensor, reference: Features) -> Tensor:
        """Computes the metric of each image.

        Args:
            images: float32 (B, 3, H, W), RGB in [0, 1], multiples of 1 / 255. Must not be modified.
            reference: What :meth:`features` returned, for B references or for one reference that all images
                share (first axis of length 1, to be broadcast); empty for a metric without reference.

        Returns:
            float (B,), on the same device. Use NaN or infinity where the metric is undefined: the caller
            replaces it by ``worst``.
        """

    def to(self, device: torch.device) -> Metric:
        """Moves the networks among the attributes to a device, and returns the metric itself."""
        for value in vars(self).values():
            if isinstance(value, nn.Module):
                value.to(device)
        return self


@dataclass(eq=False)
class FunctionMetric(Metric):
    """A metric from a function: the shortest way to a metric of your own.

    Args:
        name: Name in rewards and tables.
        function: ``function(images)``, or ``function(images, references)`` with ``needs_reference``. It
            gets float32 (B, 3, H, W), RGB in [0, 1], and returns float (B,). References have the same shape
            as the images.
        worst: The value of an image for which the function is not finite.
        higher_is_better: Direction of the metric.
        needs_reference: Whether the function takes references.
        min_side: Smallest height and width in pixels that the function accepts.

    Example:
        >>> brightness = FunctionMetric("brightness", lambda images: images.mean((1, 2, 3)), worst=0.0)
        >>> brightness.values(torch.ones(2, 3, 8, 8), ()).tolist()
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
