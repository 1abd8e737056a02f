"""Draws samples of a source on a sheet, each with its labels, to see what agents will see.

Example:
    python scripts/sample_sheet.py --images real:photos --n 40 --out samples.jpg
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from opera_env.command_line import parse_settings
from opera_env.data import RealSource, Source, list_samples, resolve_source
from opera_env.data.images import resize, to_pil
from opera_env.evaluation.sheet import write_sheet
from opera_env.settings import PositiveInt, Seed, check_settings
from opera_env.types import Sample

_TEXT_SIZE = 12
_LINE = 16
"""Height of a line of text, in pixels."""
_LINES = 3
"""Lines below each image; a sample has at most four labels, of which two share a line."""


@dataclass(frozen=True)
class SampleSheetConfig:
    """Draws samples of a source in rows; below each are its labels in the order of application."""

    images: str = "real:bundled"
    """real:FOLDER, photographs with damage as cameras make it; a folder of clean photographs, which are
    degraded by the built-in degradations; or module:attribute, a source of your own."""
    out: Path = Path("samples.jpg")
    """File to write, JPEG or PNG."""
    n: PositiveInt = 40
    """Number of samples."""
    columns: PositiveInt = 8
    """Number of samples in a row."""
    canvas: PositiveInt = 192
    """Side of the crops in pixels, a multiple of 4."""
    width: PositiveInt = 192
    """Width of each image on the sheet in pixels."""
    seed: Seed = 0
    """Seed of crops and degradations."""

    def __post_init__(self) -> None:
        check_settings(self)


def caption(sample: Sample, source: Source) -> list[str]:
    """Returns the lines below a sample: its labels, or the look of one with nothing to do."""
    if sample.spec.recipe:
        names = sample.spec.recipe
        return [", ".join(names[first : first + 2]) for first in range(0, len(names), 2)]
    look = source.look(sample.spec) if isinstance(source, RealSource) else None
    return ["nothing to do"] if look is None else ["nothing to do:", look]


def main(config: SampleSheetConfig) -> None:
    """Makes the samples and draws the sheet."""
    source = resolve_source(config.images, config.canvas)
    height = config.width + _LINES * _LINE
    rows = -(-config.n // config.columns)
    sheet = Image.new("RGB", (config.columns * (config.width + 4), rows * height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(_TEXT_SIZE)
    samples = list_samples(source, config.n, None, np.random.default_rng(config.seed))
    for index, sample in enumerate(samples):
        left, top = index % config.columns * (config.width + 4), index // config.columns * height
        picture = to_pil(resize(sample.lq[None], sample.canvas)[0].clamp(0, 1))
        picture.thumbnail((config.width, config.width))
        sheet.paste(picture, (left, top))
        for line, text in enumerate(caption(sample, source)):
            draw.text((left, top + config.width + line * _LINE), text, fill="black", font=font)
    write_sheet(sheet, config.out)


if __name__ == "__main__":
    main(parse_settings(SampleSheetConfig))
