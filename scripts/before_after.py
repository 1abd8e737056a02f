"""Draws photographs above their restored versions, cropped to one size, for the README.

Example:
    opera-env restore rain.png haze.jpg noise.png -o restored
    python scripts/before_after.py rain.png haze.jpg noise.png --restored restored --out before_after.jpg
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro
from PIL import Image, ImageDraw, ImageFont, ImageOps

from opera_env.command_line import parse_settings


@dataclass(frozen=True)
class BeforeAfterConfig:
    """Draws one column for each photograph: before above, after below."""

    photographs: tyro.conf.Positional[tuple[Path, ...]]
    """The degraded photographs."""
    restored: Path
    """Folder of the results, which have the names of the photographs."""
    out: Path = Path("before_after.jpg")
    """JPEG file to write."""
    width: int = 480
    """Width of each image in pixels."""
    height: int = 300
    """Height of each image in pixels."""
    quality: int = 88
    """JPEG quality, 1 to 95."""


def load(path: Path, config: BeforeAfterConfig, caption: str) -> Image.Image:
    """Reads an image, crops it around its centre, and writes the caption into its corner."""
    with Image.open(path) as image:
        fitted = ImageOps.fit(image.convert("RGB"), (config.width, config.height), Image.Resampling.LANCZOS)
    draw, font = ImageDraw.Draw(fitted), ImageFont.load_default(16)
    draw.rectangle((0, 0, font.getlength(caption) + 12, 24), fill="white")
    draw.text((6, 3), caption, fill="black", font=font)
    return fitted


def main(config: BeforeAfterConfig) -> None:
    """Draws the sheet."""
    gap = 6
    columns = len(config.photographs)
    size = (columns * (config.width + gap) - gap, 2 * config.height + gap)
    sheet = Image.new("RGB", size, "white")
    for column, path in enumerate(config.photographs):
        left = column * (config.width + gap)
        sheet.paste(load(path, config, "before"), (left, 0))
        sheet.paste(load(config.restored / path.name, config, "after"), (left, config.height + gap))
    sheet.save(config.out, quality=config.quality)


if __name__ == "__main__":
    main(parse_settings(BeforeAfterConfig))
