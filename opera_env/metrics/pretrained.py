"""Metrics of the pyiqa package."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from opera_env import weights
from opera_env.errors import MetricError
from opera_env.imports import needs_extra
from opera_env.metrics.base import Features, Metric


class PyiqaMetric(Metric):
    """A metric of pyiqa.

    Args:
        name: Name in pyiqa, for example ``"musiq"``; see ``pyiqa.list_models()``.
        worst: The value of an image for which the metric is not finite.
        higher_is_better: Direction of the metric.
        weight: Name of the weight file that the metric needs, as in ``opera-env weights list``; None if it
            needs none.
        needs_reference: Whether the metric compares images with their references.
        min_side: Smallest height and width in pixels that the metric accepts.
        options: Further arguments of ``pyiqa.create_metric``.

    Raises:
        MissingWeightsError: If the weight file is not on this machine. It is not downloaded automatically.
        MissingPackageError: If pyiqa is not installed; it is an extra because of its licence.
        MetricError: If pyiqa has no such metric.
    """

    def __init__(
        self,
        name: str,
        worst: float,
        higher_is_better: bool,
        weight: str | None = None,
        needs_reference: bool = False,
        min_side: int = 32,
        **options: Any,
    ) -> None:
        if weight is not None:
            weights.require(weight)
        with needs_extra("iqa"):
            import pyiqa  # takes seconds, so only rewards with such a metric import it

        if name not in pyiqa.list_models():
            raise MetricError(f"pyiqa has no metric {name!r}: pyiqa.list_models() lists its metrics.")
        self.name, self.worst, self.higher_is_better = name, worst, higher_is_better
        self.needs_reference, self.min_side = needs_reference, min_side
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecation warnings of pyiqa's dependencies
            # Not a module, because MUSIQ and MANIQA become random when a parent module calls train().
            self.net: nn.Module = pyiqa.create_metric(name, device=torch.device("cpu"), **options).eval()

    def features(self, reference: Tensor) -> Features:
        return (reference,) if self.needs_reference else ()

    def values(self, images: Tensor, reference: Features) -> Tensor:
        if self.needs_reference:
            return self.net(images, reference[0].expand_as(images)).flatten()
        return self.net(images).flatten()
