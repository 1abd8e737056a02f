"""The registry of metrics, and the computation of several metrics on one batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from opera_env.errors import MetricError, UnknownPresetError
from opera_env.metrics.base import Features, Metric
from opera_env.metrics.critic import Critic
from opera_env.metrics.full_reference import Lpips, PsnrY, SsimY
from opera_env.metrics.niqe import Niqe32
from opera_env.metrics.piqe import Piqe
from opera_env.metrics.pretrained import PyiqaMetric

METRICS: Mapping[str, Callable[[], Metric]] = {
    "psnr_y": PsnrY,
    "ssim_y": SsimY,
    "lpips": Lpips,
    "niqe32": Niqe32,
    "piqe": Piqe,
    "critic": Critic,
    "gmsd": lambda: PyiqaMetric("gmsd", worst=0.35, higher_is_better=False, needs_reference=True),
    "clipiqa": lambda: PyiqaMetric("clipiqa", worst=0.0, higher_is_better=True, weight="clipiqa"),
    "musiq": lambda: PyiqaMetric("musiq", worst=0.0, higher_is_better=True, weight="musiq"),
}
"""Builders of the metrics, by name."""


def build_metric(name: str) -> Metric:
    """Builds a metric of :data:`METRICS` by its name.

    Raises:
        UnknownPresetError: If there is no metric of that name.
        MissingWeightsError: If the weight file of the metric is not on this machine.
    """
    if name not in METRICS:
        raise UnknownPresetError("metric", name, tuple(METRICS))
    return METRICS[name]()


class MetricSuite:
    """Computes several metrics of a batch, in float32, with references prepared once.

    Args:
        metrics: Names of metrics, see :data:`METRICS`, or metric objects.
        device: Device on which the metrics run.

    Attributes:
        metrics: The metric objects.
        needs_reference: Whether one of the metrics needs references.
        concurrent: Whether several threads may call the suite at the same time.
    """

    def __init__(self, metrics: Sequence[str | Metric], device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        built = [build_metric(metric) if isinstance(metric, str) else metric for metric in metrics]
        self.metrics = tuple(metric.to(self.device) for metric in built)
        self.needs_reference = any(metric.needs_reference for metric in self.metrics)
        self.concurrent = all(metric.concurrent for metric in self.metrics)

    @torch.inference_mode()
    def features(self, references: Tensor) -> list[tuple[Features, ...]]:
        """Computes what the metrics need of references.

        Args:
            references: uint8 (B, 3, H, W).

        Returns:
            For each reference a tuple with the features of each metric, with a batch axis of length 1.

        Raises:
            MetricError: If the references are too small for a metric.
        """
        batch = references.to(self.device, torch.float32) / 255
        self._check(batch)
        with _full_precision(self.device):
            per_metric = [metric.features(batch) for metric in self.metrics]
        return [
            tuple(tuple(tensor[row : row + 1] for tensor in features) for features in per_metric)
            for row in range(len(batch))
        ]

    @torch.inference_mode()
    def __call__(
        self, images: Tensor, references: Sequence[tuple[Features, ...]]
    ) -> list[dict[str, float]]:
        """Computes the metrics of a batch of images.

        Args:
            images: uint8 (B, 3, H, W).
            references: For each image what :meth:`features` returned for its reference; empty if no metric
                needs references. If all images have the same reference, pass the same object for each: its
                features are then not copied.

        Returns:
            For each image the value of each metric, by name, in the order of the metrics. A value that is
            not finite is replaced by the metric's ``worst``.

        Raises:
            MetricError: If the images are too small for a metric.
        """
        batch = images.to(self.device, torch.float32) / 255
        self._check(batch)
        columns: dict[str, list[float]] = {}
        for index, metric in enumerate(self.metrics):
            reference: Features = ()
            if metric.needs_reference:
                reference = _collate([features[index] for features in references])
            with _full_precision(self.device):
                values = metric.values(batch, reference).float()
            columns[metric.name] = torch.where(values.isfinite(), values, metric.worst).tolist()
        return [{name: values[row] for name, values in columns.items()} for row in range(len(images))]

    def _check(self, batch: Tensor) -> None:
        height, width = batch.shape[-2:]
        for metric in self.metrics:
            if min(height, width) < metric.min_side:
                raise MetricError(
                    f"metric {metric.name!r} expected images of at least {metric.min_side} x "
                    f"{metric.min_side} pixels, found {height} x {width}: use a larger canvas, or a "
                    "reward without this metric."
                )


@contextmanager
def _full_precision(device: torch.device) -> Iterator[None]:
    """Disables reduced precision, which tools may use: autocast, and TF32 on a GPU."""
    with torch.autocast(device.type, enabled=False):
        if device.type != "cuda":
            yield
            return
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            yield


def _collate(features: Sequence[Features]) -> Features:
    """Concatenates features along the batch axis; the features of one shared reference are not copied."""
    if all(other is features[0] for other in features):
        return features[0]
    return tuple(torch.cat(tensors) for tensors in zip(*features, strict=True))
