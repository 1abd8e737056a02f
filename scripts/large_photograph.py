"""Restores large synthetic photographs and prints the peak memory and the seconds per megapixel.

Example:
    python scripts/large_photograph.py --megapixels 12 24 --plan unet.denoise unet.dehaze
"""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from opera_env.bench.large import MAX_MEMORY, measure_restore
from opera_env.command_line import parse_settings


@dataclass(frozen=True)
class LargePhotographConfig:
    """Restores large photographs, each in a separate process."""

    megapixels: tuple[float, ...] = (12.0, 24.0)
    """Sizes in millions of pixels; the aspect ratio is 3 : 2."""
    plan: tuple[str, ...] = ("unet.denoise", "unet.dehaze", "unet.super_resolution_lpips")
    """Tools of the plan, in order."""
    max_memory: float = MAX_MEMORY
    """Memory limit in GB, as ``opera-env restore --max-memory``."""


def main(config: LargePhotographConfig) -> None:
    """Measures each size and prints a table."""
    table = Table("megapixels", "peak GB", "process s", "tools", "s per megapixel")
    for megapixels in config.megapixels:
        row = measure_restore(megapixels, config.plan, config.max_memory)
        table.add_row(
            f"{row['megapixels']:.1f}",
            f"{row['peak_gb']:.2f}",
            f"{row['process_s']:.0f}",
            " > ".join(row["tools"]),
            " ".join(f"{rate:.2f}" for rate in row["tools"].values()),
        )
    Console(width=140).print(table)


if __name__ == "__main__":
    main(parse_settings(LargePhotographConfig))
