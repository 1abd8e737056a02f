"""The registry of metrics, and the computation of several metrics on one batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from opera_env.errors import MetricError, UnknownPresetError, wrap_errors
from opera_env.metrics.base import Features, Metric
from opera_env.metrics.critic import Critic
from opera_env.metrics.full_reference import Gmsd, Lpips, PsnrRgb, PsnrY, SsimY, SsimYiq
from opera_env.metrics.niqe import Niqe32
from opera_env.metrics.piqe import Piqe
from opera_env.metrics.pretrained import PyiqaMetric

METRICS: Mapping[str, Callable[[], Metric]] = {
    "psnr_y": PsnrY,
    "ssim_y": SsimY,
    "psnr_rgb": PsnrRgb,
    "ssim_yiq": SsimYiq,
    "lpips": Lpips,
    "niqe32": Niqe32,
    "piqe": Piqe,
    "critic": Critic,
    "gmsd": Gmsd,
    "clipiqa": lambda: PyiqaMetric("clipiqa", worst=0.0, higher_is_better=True, weight="clipiqa"),
    "musiq": lambda: PyiqaMetric("musiq", worst=0.0, higher_is_better=True, weight="musiq"),
    "maniqa": lambda: PyiqaMetric("maniqa", worst=0.0, higher_is_better=True, weight="maniqa"),
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

    Raises:
        UnknownPresetError: If there is no metric of a name.
        MetricError: If an object is no metric, two have the same name, or a worst value is not finite.

    Attributes:
        metrics: The metric objects.
        needs_reference: Whether one of the metrics needs references.
        concurrent: Whether several threads may call the suite at the same time.
    """

    def __init__(self, metrics: Sequence[str | Metric], device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        built = [build_metric(metric) if isinstance(metric, str) else metric for metric in metrics]
        _check_metrics(built)
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
            MetricError: If the references are too small for a metric, or it raises or returns anything but
                tensors with one row for each reference.
        """
        batch = references.to(self.device, torch.float32) / 255
        self._check(batch)
        with _full_precision(self.device):
            per_metric = [self._features(metric, batch) for metric in self.metrics]
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
            MetricError: If the images are too small for a metric, or it raises or returns anything but one
                value for each image.
        """
        batch = images.to(self.device, torch.float32) / 255
        self._check(batch)
        columns: dict[str, list[float]] = {}
        for index, metric in enumerate(self.metrics):
            reference: Features = ()
            if metric.needs_reference:
                reference = _collate([features[index] for features in references])
            values = self._values(metric, batch, reference)
            columns[metric.name] = torch.where(values.isfinite(), values, metric.worst).tolist()
        return [{name: values[row] for name, values in columns.items()} for row in range(len(images))]

    @staticmethod
    def _features(metric: Metric, references: Tensor) -> Features:
        with wrap_errors(MetricError, f"metric {metric.name!r}"):
            features = metric.features(references)
        count = len(references)
        if not isinstance(features, tuple) or not all(
            isinstance(tensor, Tensor) and tensor.ndim and len(tensor) == count for tensor in features
        ):
            raise MetricError(
                f"metric {metric.name!r}: expected features(reference) to return a tuple of tensors whose "
                f"first axis has length {count}, found {_describe(features)}."
            )
        return features

    def _values(self, metric: Metric, images: Tensor, reference: Features) -> Tensor:
        with wrap_errors(MetricError, f"metric {metric.name!r}"), _full_precision(self.device):
            values = metric.values(images, reference)
        if not isinstance(values, Tensor) or values.shape != (len(images),) or values.is_complex():
            raise MetricError(
                f"metric {metric.name!r}: expected a tensor of shape ({len(images)},), one number for each "
                f"image, found {_describe(values)}."
            )
        return values.float()

    def _check(self, batch: Tensor) -> None:
        height, width = batch.shape[-2:]
        for metric in self.metrics:
            if min(height, width) < metric.min_side:
                raise MetricError(
                    f"metric {metric.name!r} expected images of at least {metric.min_side} x "
                    f"{metric.min_side} pixels, found {height} x {width}: use a larger canvas, or a "
                    "reward without this metric."
                )


def _check_metrics(metrics: Sequence[Metric]) -> None:
    """Raises :class:`MetricError` if metrics cannot be used together."""
    names: set[str] = set()
    for metric in metrics:
        if not isinstance(metric, Metric):
            raise MetricError(
                "expected the name of a metric or an object of opera_env.metrics.Metric, found "
                f"{metric!r}: wrap a function with FunctionMetric."
            )
        if metric.name in names:
            raise MetricError(f"two metrics are called {metric.name!r}: rename one of them.")
        if not isinstance(metric.worst, int | float) or not isfinite(metric.worst):
            raise MetricError(
                f"metric {metric.name!r}: expected a finite number as worst, found {metric.worst!r}."
            )
        names.add(metric.name)


def _describe(value: object) -> str:
    """Returns the type of a value, and the shape and dtype if it is a tensor."""
    if isinstance(value, tuple):
        return f"a tuple of {', '.join(map(_describe, value)) or 'nothing'}"
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    return f"{type(value).__name__}"


@contextmanager
def _full_precision(device: torch.device) -> Iterator[None]:
    """Disables reduced precision, which tools may use: autocast, and TF32 on a GPU."""
    with torch.autocast(device.type, enabled=False):
        if device.type != "cuda":
            yield
            return
        conv: Any = torch.backends.cudnn.conv  # pyright: ignore[reportAttributeAccessIssue]
        switches: tuple[Any, ...] = torch.backends.cuda.matmul, conv
        before = [switch.fp32_precision for switch in switches]
        try:
            for switch in switches:
                switch.fp32_precision = "ieee"
            yield
        finally:
            for switch, precision in zip(switches, before, strict=True):
                switch.fp32_precision = precision


def _collate(features: Sequence[Features]) -> Features:
    """Concatenates features along the batch axis; the features of one shared reference are not copied."""
    if all(other is features[0] for other in features):
        return features[0]
    return tuple(torch.cat(tensors) for tensors in zip(*features, strict=True))
