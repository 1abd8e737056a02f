"""Published results, which tables show beside measured ones, each with its source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_PAPER = "arXiv:2605.22104"
_COLUMNS = ("psnr_y", "ssim_y", "lpips", "maniqa", "clipiqa", "musiq")


@dataclass(frozen=True)
class PublishedRow:
    """A row of a published table.

    Attributes:
        method: The method, as it is called there.
        texts: Metric values as they were printed, by the name that the metric has here.
        source: Paper and table.
    """

    method: str
    texts: Mapping[str, str]
    source: str

    @property
    def values(self) -> dict[str, float]:
        """Metric values by the name that the metric has here."""
        return {name: float(text) for name, text in self.texts.items()}


def _rows(table: int, text: str, columns: tuple[str, ...]) -> tuple[PublishedRow, ...]:
    """Reads rows of a table, each with the name of the method before the first ``|``."""
    rows: list[PublishedRow] = []
    for line in text.strip().splitlines():
        method, _, numbers = line.partition("|")
        texts = dict(zip(columns, numbers.split(), strict=True))
        rows.append(PublishedRow(method.strip(), texts, f"{_PAPER}, table {table}"))
    return tuple(rows)


PUBLISHED_GROUPS: Mapping[str, tuple[PublishedRow, ...]] = {
    "A": _rows(
        1,
        """
        AirNet             | 19.13 0.60 0.43 0.26 0.39 42.46
        PromptIR           | 20.06 0.61 0.41 0.26 0.40 42.62
        MiOIR              | 20.84 0.66 0.37 0.25 0.39 47.82
        DA-CLIP            | 19.58 0.60 0.43 0.24 0.41 42.51
        InstructIR         | 18.03 0.58 0.44 0.27 0.35 45.77
        AutoDIR            | 19.64 0.63 0.40 0.25 0.38 47.01
        AgenticIR          | 21.04 0.68 0.31 0.31 0.45 56.88
        MAIR               | 21.02 0.67 0.30 0.33 0.48 59.19
        4KAgent            | 21.48 0.67 0.30 0.37 0.55 63.19
        OPERA, planning    | 22.32 0.71 0.33 0.35 0.45 59.34
        OPERA, full        | 24.81 0.77 0.23 0.32 0.72 57.84
        """,
        _COLUMNS,
    ),
    "B": _rows(
        1,
        """
        AirNet             | 19.31 0.66 0.37 0.29 0.43 47.88
        PromptIR           | 20.47 0.67 0.34 0.29 0.43 48.10
        MiOIR              | 20.56 0.69 0.32 0.26 0.43 51.87
        DA-CLIP            | 18.56 0.59 0.44 0.24 0.42 43.70
        InstructIR         | 18.34 0.62 0.41 0.30 0.38 50.94
        AutoDIR            | 19.90 0.66 0.35 0.25 0.40 49.64
        AgenticIR          | 20.55 0.70 0.31 0.32 0.46 57.57
        MAIR               | 20.92 0.70 0.28 0.35 0.51 60.98
        4KAgent            | 20.95 0.67 0.30 0.37 0.55 62.69
        OPERA, planning    | 22.28 0.75 0.31 0.36 0.46 59.10
        OPERA, full        | 24.63 0.78 0.20 0.33 0.71 58.41
        """,
        _COLUMNS,
    ),
    "C": _rows(
        1,
        """
        AirNet             | 17.95 0.51 0.58 0.19 0.31 30.12
        PromptIR           | 18.51 0.52 0.58 0.19 0.31 29.71
        MiOIR              | 15.63 0.49 0.54 0.17 0.29 37.95
        DA-CLIP            | 18.53 0.53 0.53 0.19 0.35 33.87
        InstructIR         | 17.09 0.51 0.56 0.17 0.25 33.69
        AutoDIR            | 18.61 0.54 0.50 0.20 0.29 37.86
        AgenticIR          | 18.82 0.55 0.45 0.27 0.39 48.68
        MAIR               | 19.42 0.55 0.41 0.28 0.42 51.36
        4KAgent            | 19.77 0.56 0.43 0.35 0.52 55.56
        OPERA, planning    | 20.75 0.61 0.47 0.28 0.37 49.91
        OPERA, full        | 23.04 0.66 0.30 0.25 0.72 51.27
        """,
        _COLUMNS,
    ),
}
"""Means of the benchmark's groups, by group. PSNR and SSIM are on Y, as section 5.1 of the paper says."""

PUBLISHED_COMBINATIONS: Mapping[str, PublishedRow] = {
    row.method: PublishedRow("OPERA, full", row.texts, row.source)
    for row in _rows(
        8,
        """
        rain+haze                     | 25.25 0.94 0.06 0.84 69.07 0.44
        motion_blur+low_resolution    | 25.78 0.72 0.18 0.84 58.78 0.28
        low_light+noise               | 23.93 0.81 0.19 0.83 64.70 0.35
        defocus_blur+jpeg             | 25.75 0.68 0.43 0.34 30.69 0.19
        noise+jpeg                    | 26.23 0.65 0.44 0.43 46.20 0.29
        rain+low_resolution           | 25.99 0.72 0.18 0.85 66.10 0.34
        motion_blur+low_light         | 22.57 0.78 0.20 0.81 60.27 0.32
        defocus_blur+haze             | 22.98 0.82 0.14 0.86 66.88 0.34
        haze+noise                    | 22.82 0.81 0.16 0.88 66.96 0.36
        defocus_blur+low_resolution   | 26.74 0.73 0.17 0.86 62.85 0.31
        motion_blur+jpeg              | 23.88 0.68 0.36 0.30 35.37 0.20
        rain+low_light                | 25.06 0.90 0.11 0.79 68.44 0.44
        haze+motion_blur+low_resolution | 21.71 0.69 0.21 0.83 56.61 0.27
        rain+noise+low_resolution     | 25.56 0.70 0.22 0.85 63.62 0.31
        low_light+defocus_blur+jpeg   | 21.44 0.63 0.50 0.32 27.55 0.16
        motion_blur+defocus_blur+noise | 23.46 0.61 0.27 0.87 57.30 0.27
        """,
        ("psnr_y", "ssim_y", "lpips", "clipiqa", "musiq", "maniqa"),
    )
}
"""The full model of the paper on each combination of the benchmark."""

_FULL_REFERENCE = ("psnr_y", "ssim_y", "lpips")

PUBLISHED_BENCHMARKS: Mapping[str, tuple[PublishedRow, ...]] = {
    "misuse": _rows(
        12,
        """
        OPERA, pretrained tools | 40.80 0.938 0.084
        OPERA, trained tools    | 48.11 0.990 0.011
        """,
        _FULL_REFERENCE,
    ),
    "single": _rows(
        12,
        """
        OPERA, pretrained tools | 28.62 0.767 0.282
        OPERA, trained tools    | 28.50 0.739 0.317
        """,
        _FULL_REFERENCE,
    ),
    "rtts": _rows(
        2,
        """
        TransWeather    | 0.292 46.27
        DA-CLIP         | 0.325 53.23
        InstructIR      | 0.370 54.46
        WResVLM         | 0.371 56.09
        PromptIR        | 0.372 53.88
        KA-Net          | 0.290 54.51
        DEA-Net         | 0.370 54.09
        Deharmer        | 0.370 53.79
        IPC-Dehaze      | 0.440 59.60
        OPERA, planning | 0.393 56.91
        OPERA, full     | 0.463 55.78
        """,
        ("clipiqa", "musiq"),
    ),
    "lhp": _rows(
        3,
        """
        SPANet          | 28.00 0.8905
        PReNet          | 27.57 0.8595
        MPRNet          | 28.41 0.8807
        GT-Rain         | 28.62 0.8675
        Uformer-B       | 28.74 0.9262
        NeRD-Rain       | 30.83 0.8854
        SCD-Former      | 29.41 0.9127
        FAD-Former      | 31.27 0.8969
        OPERA, planning | 25.85 0.8301
        OPERA, full     | 30.93 0.8995
        """,
        ("psnr_y", "ssim_y"),
    ),
}
"""Means over all images of other benchmarks, by benchmark. For ``misuse`` and ``single`` they are means
over the tools."""

PUBLISHED_REDUCED_REWARD: Mapping[str, tuple[PublishedRow, ...]] = {
    group: _rows(11, f"OPERA, planning, CLIP-IQA and MUSIQ only | {numbers}", _COLUMNS)
    for group, numbers in (
        ("A", "20.86 0.70 0.33 0.37 0.53 66.29"),
        ("B", "20.16 0.70 0.35 0.38 0.53 64.65"),
        ("C", "19.83 0.61 0.44 0.27 0.47 61.73"),
    )
}
"""What the paper's planner reaches if its reward has two metrics without reference only."""
