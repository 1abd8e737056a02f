"""Draws images with captions in a row."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

_CAPTION_HEIGHT = 18
_GAP = 4


def image_strip(pictures: Sequence[tuple[str, Image.Image]], height: int = 192) -> Image.Image:
    """Draws images in a row, scaled to one height, with captions above.

    Args:
        pictures: Captions and images of any size.
        height: Height of each image in the row, in pixels.

    Returns:
        An RGB image of ``height`` pixels plus the height of the captions.
    """
    font = ImageFont.load_default(12)
    scaled = [
        (caption, picture.resize((max(1, round(picture.width * height / picture.height)), height)))
        for caption, picture in pictures
    ]
    widths = [max(picture.width, round(font.getlength(caption)) + _GAP) for caption, picture in scaled]
    total_width = sum(widths) + _GAP * (len(widths) - 1)
    row = Image.new("RGB", (total_width, height + _CAPTION_HEIGHT), "white")
    draw = ImageDraw.Draw(row)
    left = 0
    for (caption, picture), width in zip(scaled, widths, strict=True):
        draw.text((left, 2), caption, fill="black", font=font)
        row.paste(picture, (left, _CAPTION_HEIGHT))
        left += width + _GAP
    return row
