"""Keeps what metrics compute from reference images, so that each reference is prepared once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from opera_env.data.images import quantise
from opera_env.execution import WorkerPool
from opera_env.metrics.base import Features
from opera_env.metrics.suite import MetricSuite
from opera_env.types import Canvas, Sample

MAX_CACHED_REFERENCES = 64
"""Number of references whose features are kept: more than the images of a training batch."""


@dataclass(frozen=True)
class ReferenceFeatures:
    """The features of one reference, which may still be computed.

    Attributes:
        batch: The future of the features of a batch of references, for each reference one per metric.
        row: Index of the reference in the batch.
    """

    batch: Future[list[tuple[Features, ...]]]
    row: int

    @property
    def failed(self) -> bool:
        """Whether the features will never be available: the computation failed or was cancelled."""
        return self.batch.done() and (self.batch.cancelled() or self.batch.exception() is not None)

    def result(self) -> tuple[Features, ...]:
        """Waits for the features of each metric and returns them."""
        return self.batch.result()[self.row]


class ReferenceCache:
    """Computes the features of references in batches and keeps the most recently used ones.

    Args:
        metrics: The metrics. If they are not concurrent, features are computed in the caller's thread.
        batch_pixels: Maximum number of pixels in a batch, all images together.
    """

    def __init__(self, metrics: MetricSuite, batch_pixels: int) -> None:
        self.metrics = metrics
        self.batch_pixels = batch_pixels
        self._entries: OrderedDict[str, ReferenceFeatures] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        """Leaves the entries out of a copy: a computation that still runs cannot be copied."""
        return {**vars(self), "_entries": OrderedDict()}

    def __len__(self) -> int:
        return len(self._entries)

    def clear(self) -> None:
        """Removes all entries."""
        self._entries.clear()

    def prefetch(self, samples: Sequence[Sample], pool: WorkerPool) -> None:
        """Starts to compute the features of all samples, unless they are more than the cache can hold."""
        distinct = {sample.key: sample for sample in samples}
        if len(distinct) > MAX_CACHED_REFERENCES:
            return
        by_canvas: dict[Canvas, list[Sample]] = {}
        for sample in distinct.values():
            by_canvas.setdefault(sample.canvas, []).append(sample)
        for (height, width), group in by_canvas.items():
            size = max(1, self.batch_pixels // (height * width))
            for start in range(0, len(group), size):
                self.get(group[start : start + size], pool)

    def get(self, samples: Sequence[Sample], pool: WorkerPool) -> list[ReferenceFeatures]:
        """Returns the features of samples of one canvas; submits, as one batch, those that are missing."""
        available = {key for key, entry in self._entries.items() if not entry.failed}
        missing = {sample.key: sample for sample in samples if sample.key not in available}
        if missing:
            references = torch.stack([_quantised_reference(sample) for sample in missing.values()])
            future = pool.submit(
                partial(self.metrics.features, references), inline=not self.metrics.concurrent
            )
            for row, key in enumerate(missing):
                self._entries[key] = ReferenceFeatures(future, row)
        entries = [self._entries[sample.key] for sample in samples]
        for sample in samples:
            self._entries.move_to_end(sample.key)
        while len(self._entries) > MAX_CACHED_REFERENCES:
            self._entries.popitem(last=False)
        return entries


def _quantised_reference(sample: Sample) -> Tensor:
    assert sample.reference is not None
    return quantise(sample.reference)
