"""Metrics of the pyiqa package."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from opera_env import weights
from opera_env.errors import MetricError
from opera_env.execution.memory import measure_bytes
from opera_env.imports import needs_extra
from opera_env.metrics.base import Features, Metric

MAX_BYTES = 2 * 2**30
"""Memory in bytes for a part of a batch. MANIQA cuts an image of any size into twenty windows of 224 x 224
pixels, so that the size of a batch says nothing of its memory."""


class PyiqaMetric(Metric):
    """A metric of pyiqa, computed for as many images at a time as the memory allows.

    Args:
        name: Name in pyiqa, for example ``"musiq"``; see ``pyiqa.list_models()``.
        worst: The value of an image for which the metric is not finite.
        higher_is_better: Direction of the metric.
        weight: Name of the weight file that the metric needs, as in ``opera-env weights list``; None if it
            needs none.
        needs_reference: Whether the metric compares images with their references.
        min_side: Smallest height and width in pixels that the metric accepts.
        max_bytes: Memory in bytes that it may take. It is measured, once for each size of images, on a
            single image, which is computed in whatever memory it needs.
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
        max_bytes: int = MAX_BYTES,
        **options: Any,
    ) -> None:
        if weight is not None:
            weights.require(weight)
        with needs_extra("iqa"):
            import pyiqa  # takes seconds, so only rewards with such a metric import it

        if name not in pyiqa.list_models():
            raise MetricError(f"pyiqa has no metric {name!r}: pyiqa.list_models() lists its metrics.")
        self.name, self.worst, self.higher_is_better = name, worst, higher_is_better
        self.needs_reference, self.min_side, self.max_bytes = needs_reference, min_side, max_bytes
        self._bytes_per_image: dict[tuple[int, ...], float] = {}  # by the shape of the image
        with warnings.catch_warnings(), nullcontext() if weight is None else _no_other_files():
            warnings.simplefilter("ignore")  # deprecation warnings of pyiqa's dependencies
            # Not a module, because MUSIQ and MANIQA become random when a parent module calls train().
            self.net: nn.Module = pyiqa.create_metric(name, device=torch.device("cpu"), **options).eval()

    def features(self, reference: Tensor) -> Features:
        return (reference,) if self.needs_reference else ()

    def values(self, images: Tensor, reference: Features) -> Tensor:
        inputs = (images, reference[0].expand_as(images)) if self.needs_reference else (images,)
        size = self._count_at_a_time(*(tensor[:1] for tensor in inputs))
        parts = zip(*(tensor.split(size) for tensor in inputs), strict=True)
        return torch.cat([self.net(*part).reshape(-1) for part in parts])

    def _count_at_a_time(self, *inputs: Tensor) -> int:
        """Returns how many images fit into the memory; ``inputs`` are those for one."""
        shape = tuple(inputs[0].shape)
        if shape not in self._bytes_per_image:
            self._bytes_per_image[shape] = measure_bytes(lambda: self.net(*inputs))
        return max(1, int(self.max_bytes / self._bytes_per_image[shape]))


@contextmanager
def _no_other_files() -> Iterator[None]:
    """Keeps pyiqa from downloading a backbone by timm whose weights the weight file of a metric has too."""
    import timm

    create_model = timm.create_model

    def create(name: str, pretrained: bool = False, **options: Any) -> nn.Module:
        return create_model(name, pretrained=False, **options)

    with patch.object(timm, "create_model", create):
        yield
