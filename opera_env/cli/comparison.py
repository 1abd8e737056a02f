"""The image of ``opera-env restore --compare``: the photograph before and after, with the plan above."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from opera_env.data.images import resize, to_pil
from opera_env.data.photo import Photo
from opera_env.envs.render import wrap_caption
from opera_env.restoration import Restoration
from opera_env.restoration.explanation import format_plan

_MAX_HEIGHT, _MAX_WIDTH = 720, 4096
"""Size limits, in pixels, of each of the two images."""

_FONT_SIZE, _LINE_HEIGHT, _GAP = 12, 16, 4
"""Size of the font, height of a line, and space around captions and between the images, in pixels."""


def draw_comparison(before: Photo, result: Restoration) -> Photo:
    """Draws the photograph before and after side by side, with the plan above the result.

    A plan that is longer than the image is wide continues on further lines. Of an image that is narrower
    than the name of a tool, the name decides the width of the column.

    Args:
        before: The photograph.
        result: Its restoration.
    """
    height, width = result.image.shape[-2:]
    shrink = min(1.0, _MAX_HEIGHT / height, _MAX_WIDTH / width)
    size = (max(1, round(height * shrink)), max(1, round(width * shrink)))
    captions = ("before", format_plan(result.decision.plan) if result.decision.plan else "unchanged")
    images = [_shrink(image, size) for image in (before.tensor(), result.image)]
    is_grey = before.pixels.shape[2] == 1  # a grey profile does not suit the colours of the comparison
    pixels = np.asarray(_draw_columns(captions, images))
    return Photo(pixels, format="JPEG", icc=None if is_grey else before.icc)


def _shrink(image: Tensor, size: tuple[int, int]) -> Image.Image:
    return to_pil(resize(image[None], size)[0])


def _draw_columns(captions: tuple[str, str], images: list[Image.Image]) -> Image.Image:
    """Draws two images of one size side by side, each below its caption."""
    font = ImageFont.load_default(_FONT_SIZE)
    image_width, image_height = images[0].size
    texts = [wrap_caption(caption, image_width, font) for caption in captions]
    lines = [line for text in texts for line in text]
    column = max(image_width, *(round(font.getlength(line)) + _GAP for line in lines))
    top = max(map(len, texts)) * _LINE_HEIGHT + _GAP
    drawn = Image.new("RGB", (2 * column + _GAP, top + image_height), "white")
    draw = ImageDraw.Draw(drawn)
    for index, (text, image) in enumerate(zip(texts, images, strict=True)):
        left = index * (column + _GAP)
        first = top - _GAP // 2 - len(text) * _LINE_HEIGHT  # captions end right above their image
        for number, line in enumerate(text):
            draw.text((left, first + number * _LINE_HEIGHT), line, fill="black", font=font)
        drawn.paste(image, (left, top))
    return drawn
