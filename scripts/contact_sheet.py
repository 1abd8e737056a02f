"""Puts the before-and-after strips of ``opera-env restore --compare`` on one sheet.

Example:
    opera-env restore "photos/**/*" -o restored --compare
    python scripts/contact_sheet.py restored --out sheet.jpg
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro
from PIL import Image

from opera_env.command_line import parse_settings


@dataclass(frozen=True)
class ContactSheetConfig:
    """Draws a contact sheet of before-and-after strips."""

    folder: tyro.conf.Positional[Path]
    """Folder with the strips, searched with its subfolders."""
    out: Path = Path("sheet.jpg")
    """JPEG file to write."""
    columns: int = 3
    """Number of strips in a row."""
    width: int = 640
    """Width of each strip in pixels."""
    quality: int = 85
    """JPEG quality, 1 to 95."""


def main(config: ContactSheetConfig) -> None:
    """Draws the sheet."""
    strips: list[Image.Image] = []
    for path in sorted(config.folder.rglob("*.compare.jpg")):
        with Image.open(path) as strip:
            strips.append(strip.resize((config.width, round(strip.height * config.width / strip.width))))
    rows = [strips[first : first + config.columns] for first in range(0, len(strips), config.columns)]
    heights = [max(strip.height for strip in row) + 6 for row in rows]
    sheet = Image.new("RGB", (config.columns * (config.width + 6), sum(heights)), "white")
    for index, row in enumerate(rows):
        for column, strip in enumerate(row):
            sheet.paste(strip, (column * (config.width + 6), sum(heights[:index])))
    sheet.save(config.out, quality=config.quality)


if __name__ == "__main__":
    main(parse_settings(ContactSheetConfig))
