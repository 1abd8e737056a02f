"""The two protocols of the field: which metrics are the columns of a table, and why one may be empty."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from opera_env.errors import MissingPackageError, MissingWeightsError
from opera_env.metrics import Metric, build_metric
from opera_env.types import Sample


@dataclass(frozen=True)
class Column:
    """A column of a table of results.

    Attributes:
        metric: Name of the metric, as in :data:`opera_env.metrics.METRICS`.
        title: Heading of the column.
        digits: Digits after the decimal point.
        lower_is_better: Whether lower values are better.
    """

    metric: str
    title: str
    digits: int
    lower_is_better: bool = False


_PERCEPTUAL = (
    Column("lpips", "LPIPS", 3, lower_is_better=True),
    Column("maniqa", "MANIQA", 3),
    Column("clipiqa", "CLIP-IQA", 3),
    Column("musiq", "MUSIQ", 2),
)

PROTOCOLS: Mapping[str, tuple[Column, ...]] = {
    "opera": (Column("psnr_y", "PSNR", 2), Column("ssim_y", "SSIM", 3), *_PERCEPTUAL),
    "agenticir": (Column("psnr_rgb", "PSNR", 2), Column("ssim_yiq", "SSIM", 3), *_PERCEPTUAL),
}
"""The columns of each protocol. No border is cropped in either.

``opera`` has PSNR and SSIM on the Y of BT.601 YCbCr, as 4KAgent and the paper have them. ``agenticir`` has
PSNR on RGB, and SSIM on the Y of YIQ, which are the defaults of pyiqa.

Source: section 5.1 of the paper; the evaluation code of AgenticIR, which calls pyiqa without options.
"""

PROTOCOL_METRICS: tuple[str, ...] = tuple(
    dict.fromkeys(column.metric for columns in PROTOCOLS.values() for column in columns)
)
"""The metrics of all protocols, each once. Results have all of them, so that a table under either protocol
can be made of one file."""


class ColumnMetrics:
    """The metrics of columns, built once, or the reasons why they cannot be computed.

    Args:
        names: Names of metrics.

    Attributes:
        metrics: The metrics that can be built on this machine, by name.
        reasons: Why the others cannot, by name.
    """

    def __init__(self, names: Iterable[str] = PROTOCOL_METRICS) -> None:
        self.metrics: dict[str, Metric] = {}
        self.reasons: dict[str, str] = {}
        for name in names:
            try:
                self.metrics[name] = build_metric(name)
            except MissingWeightsError:
                self.reasons[name] = f"no weights here: opera-env weights fetch {name}"
            except MissingPackageError as error:
                self.reasons[name] = str(error).rstrip(".")

    def missing(self, sample: Sample) -> dict[str, str]:
        """Returns why metrics cannot be computed on the results of a sample, by their names."""
        reasons = dict(self.reasons)
        height, width = sample.canvas
        for name, metric in self.metrics.items():
            if metric.needs_reference and sample.reference is None:
                reasons[name] = "no reference"
            elif min(height, width) < metric.min_side:
                reasons[name] = f"needs images of at least {metric.min_side} x {metric.min_side} pixels"
        return reasons
