"""Pictures side by side, each under its name."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

_CAPTION = 18
_GAP = 4


def image_strip(pictures: Sequence[tuple[str, Image.Image]], height: int = 192) -> Image.Image:
    """Draws pictures in a row at one height, captions above.

    Args:
        pictures: Captions and pictures of any size.
        height: Height of each picture in the row.

    Returns:
        An RGB picture, ``height`` + caption high.
    """
    font = ImageFont.load_default(12)
    scaled = [
        (caption, picture.resize((max(1, round(picture.width * height / picture.height)), height)))
        for caption, picture in pictures
    ]
    widths = [max(picture.width, round(font.getlength(caption)) + _GAP) for caption, picture in scaled]
    row = Image.new("RGB", (sum(widths) + _GAP * (len(widths) - 1), height + _CAPTION), "white")
    draw = ImageDraw.Draw(row)
    left = 0
    for (caption, picture), width in zip(scaled, widths, strict=True):
        draw.text((left, 2), caption, fill="black", font=font)
        row.paste(picture, (left, _CAPTION))
        left += width + _GAP
    return row
