"""Puts the before-and-after strips of `opera-env restore --compare` on one sheet.

Example:
    opera-env restore "photos/**/*" -o mended --compare
    python scripts/contact_sheet.py mended --out sheet.jpg
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro
from PIL import Image


@dataclass(frozen=True)
class ContactSheetConfig:
    """Draws a contact sheet."""

    folder: tyro.conf.Positional[Path]
    """Where the strips are; subfolders count."""
    out: Path = Path("sheet.jpg")
    """The sheet."""
    columns: int = 3
    """Strips side by side."""
    width: int = 640
    """Of each strip, in pixels."""
    quality: int = 85
    """Of the JPEG file."""


def main(options: ContactSheetConfig) -> None:
    strips: list[Image.Image] = []
    for path in sorted(options.folder.rglob("*.compare.jpg")):
        with Image.open(path) as strip:
            strips.append(strip.resize((options.width, round(strip.height * options.width / strip.width))))
    rows = [strips[first : first + options.columns] for first in range(0, len(strips), options.columns)]
    heights = [max(strip.height for strip in row) + 6 for row in rows]
    sheet = Image.new("RGB", (options.columns * (options.width + 6), sum(heights)), "white")
    for index, row in enumerate(rows):
        for column, strip in enumerate(row):
            sheet.paste(strip, (column * (options.width + 6), sum(heights[:index])))
    sheet.save(options.out, quality=options.quality)


if __name__ == "__main__":
    main(tyro.cli(ContactSheetConfig))
