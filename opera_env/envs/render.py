"""Draws images with captions, as a frame whose size does not depend on the images."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont, ImageOps

_FRAME_CAPTION_HEIGHT = 32
"""Height of two lines of a caption, in pixels."""

_GAP = 4
"""Space between images, in pixels."""

_MAX_COLUMNS = 5
_FONT_SIZE, _MIN_FONT_SIZE = 12, 6
_EMPTY = (235, 235, 235)
"""Colour of a slot without an image, and of the bands beside an image that is not square."""

Captioned = tuple[str, Image.Image]


def image_frame(slots: Sequence[Captioned | None], side: int = 192) -> Image.Image:
    """Draws images with captions in slots of equal size, in rows.

    The size of the result depends on the number of slots alone, so that results can be frames of a video.

    Args:
        slots: Captions and images of any size, from left to right and from top to bottom; None leaves a
            slot empty. There is at least one.
        side: Height and width of each slot in pixels, an even number. Images are scaled to fit.

    Returns:
        An RGB image whose sides are even numbers of pixels, as encoders of videos need them.
    """
    rows = -(-len(slots) // _MAX_COLUMNS)
    columns = -(-len(slots) // rows)
    slot_width, slot_height = side + _GAP, side + _GAP + _FRAME_CAPTION_HEIGHT
    frame = Image.new("RGB", (columns * slot_width + _GAP, rows * slot_height + _GAP), "white")
    draw = ImageDraw.Draw(frame)
    for index, slot in enumerate(slots):
        left, top = _GAP + index % columns * slot_width, _GAP + index // columns * slot_height
        picture = Image.new("RGB", (side, side), _EMPTY)
        if slot is not None:
            caption, image = slot
            text, font = _fit_caption(caption, side)
            base = (left, top + _FRAME_CAPTION_HEIGHT - 2)
            draw.multiline_text(base, text, fill="black", font=font, spacing=2, anchor="ld")
            picture = ImageOps.pad(image.convert("RGB"), (side, side), color=_EMPTY)
        frame.paste(picture, (left, top + _FRAME_CAPTION_HEIGHT))
    return frame


def _fit_caption(caption: str, width: int) -> tuple[str, ImageFont.FreeTypeFont | ImageFont.ImageFont]:
    """Breaks a caption into at most two lines, and chooses the largest font in which they fit the width."""
    size = _FONT_SIZE
    while True:
        font = ImageFont.load_default(size)
        lines = wrap_caption(caption, width, font)
        fits = len(lines) <= 2 and all(font.getlength(line) <= width for line in lines)
        if fits or size == _MIN_FONT_SIZE:
            return "\n".join(lines[:2]), font
        size -= 1


def wrap_caption(caption: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> list[str]:
    """Breaks a caption at spaces into lines of at most ``width`` pixels; a longer word has its own line.

    Args:
        caption: The caption.
        width: Width in pixels.
        font: The font in which it is drawn.
    """
    lines: list[str] = []
    for word in caption.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
