"""Metrics that come from pyiqa as they are."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from opera_env import weights
from opera_env.errors import MetricError
from opera_env.metrics.base import Features, Metric


class PyiqaMetric(Metric):
    """Any metric of pyiqa, by its name there.

    Args:
        name: Name in pyiqa, e.g. "musiq".
        worst: The value an image gets when the metric's is not finite.
        higher_is_better: Its direction.
        weight: Name of the file it needs in ``opera-env weights list``; None if it needs none.
        needs_reference: Whether it compares with the clean image.
        min_side: The smallest height and width it can judge.
        options: Passed to ``pyiqa.create_metric``.

    Raises:
        MissingWeightsError: If its weights are not on this machine; nothing is downloaded
            behind your back.
        MetricError: If pyiqa does not know it.
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
        import pyiqa  # seconds to import: only for rewards that use it

        if name not in pyiqa.list_models():
            raise MetricError(f"pyiqa has no metric {name!r}: see pyiqa.list_models().")
        self.name, self.worst, self.higher_is_better = name, worst, higher_is_better
        self.needs_reference, self.min_side = needs_reference, min_side
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its dependencies' deprecations are not the user's business
            # Kept apart from any parent module: MUSIQ and MANIQA turn random under .train().
            self.net: nn.Module = pyiqa.create_metric(name, device=torch.device("cpu"), **options).eval()

    def features(self, reference: Tensor) -> Features:
        return (reference,) if self.needs_reference else ()

    def values(self, images: Tensor, reference: Features) -> Tensor:
        if self.needs_reference:
            return self.net(images, reference[0].expand_as(images)).flatten()
        return self.net(images).flatten()
