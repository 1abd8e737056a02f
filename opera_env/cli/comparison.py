"""The image of ``opera-env restore --compare``: the photograph before and after, with the plan above."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

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


def draw_variants(before: Photo, variants: Sequence[tuple[str, Tensor]]) -> Photo:
    """Draws a photograph and its variants as a contact sheet, each below its caption.

    Args:
        before: The photograph.
        variants: Caption and image, float32 (3, H, W), of each; the images have one size.
    """
    shown = [("before", before.tensor()), *variants]
    columns = math.ceil(math.sqrt(len(shown)))
    height, width = variants[0][1].shape[-2:]
    shrink = min(1.0, _MAX_HEIGHT / height, _MAX_WIDTH / columns / width)
    size = (max(1, round(height * shrink)), max(1, round(width * shrink)))
    rows = [
        _draw_columns([caption for caption, _ in row], [_shrink(image, size) for _, image in row])
        for row in (shown[start : start + columns] for start in range(0, len(shown), columns))
    ]
    tops = list(accumulate((row.height + _GAP for row in rows), initial=0))
    sheet = Image.new("RGB", (max(row.width for row in rows), tops[-1] - _GAP), "white")
    for top, row in zip(tops, rows, strict=False):
        sheet.paste(row, (0, top))
    is_grey = before.pixels.shape[2] == 1
    return Photo(np.asarray(sheet), format="JPEG", icc=None if is_grey else before.icc)


def _shrink(image: Tensor, size: tuple[int, int]) -> Image.Image:
    return to_pil(resize(image[None], size)[0])


def _draw_columns(captions: Sequence[str], images: Sequence[Image.Image]) -> Image.Image:
    """Draws images of one size side by side, each below its caption."""
    font = ImageFont.load_default(_FONT_SIZE)
    image_width, image_height = images[0].size
    texts = [wrap_caption(caption, image_width, font) for caption in captions]
    lines = [line for text in texts for line in text]
    column = max(image_width, *(round(font.getlength(line)) + _GAP for line in lines))
    top = max(map(len, texts)) * _LINE_HEIGHT + _GAP
    drawn = Image.new("RGB", (len(images) * (column + _GAP) - _GAP, top + image_height), "white")
    draw = ImageDraw.Draw(drawn)
    for index, (text, image) in enumerate(zip(texts, images, strict=True)):
        left = index * (column + _GAP)
        first = top - _GAP // 2 - len(text) * _LINE_HEIGHT  # captions end right above their image
        for number, line in enumerate(text):
            draw.text((left, first + number * _LINE_HEIGHT), line, fill="black", font=font)
        drawn.paste(image, (left, top))
    return drawn
