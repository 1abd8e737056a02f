"""Draws images with captions in a row."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

_CAPTION_HEIGHT = 18
_GAP = 4
"""Space between images, in pixels."""


def image_strip(captioned_images: Sequence[tuple[str, Image.Image]], height: int = 192) -> Image.Image:
    """Draws images in a row, scaled to one height, with captions above.

    Args:
        captioned_images: Captions and images of any size, from left to right.
        height: Height of each image in the row, in pixels.

    Returns:
        An RGB image of ``height`` pixels plus the height of the captions.
    """
    font = ImageFont.load_default(12)
    scaled = [
        (caption, image.resize((max(1, round(image.width * height / image.height)), height)))
        for caption, image in captioned_images
    ]
    widths = [max(image.width, round(font.getlength(caption)) + _GAP) for caption, image in scaled]
    total_width = sum(widths) + _GAP * (len(widths) - 1)
    row = Image.new("RGB", (total_width, height + _CAPTION_HEIGHT), "white")
    draw = ImageDraw.Draw(row)
    left = 0
    for (caption, image), width in zip(scaled, widths, strict=True):
        draw.text((left, 2), caption, fill="black", font=font)
        row.paste(image, (left, _CAPTION_HEIGHT))
        left += width + _GAP
    return row
