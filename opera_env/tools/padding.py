"""Padding of images to the sizes that a network accepts."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def pad_to_multiple(image: Tensor, multiple: int, minimum: int | tuple[int, int] = 1) -> Tensor:
    """Pads an image at the right and the bottom to a size that a network accepts.

    The border is mirrored where the image is large enough for that, and repeated otherwise.

    Args:
        image: float (B, C, H, W).
        multiple: The padded height and width are multiples of this number of pixels.
        minimum: The padded height and width are at least this number of pixels, or these two numbers.

    Returns:
        float (B, C, H', W'); the image itself if its size is already accepted.

    Example:
        >>> import torch
        >>> pad_to_multiple(torch.zeros(1, 3, 5, 16), 8).shape
        torch.Size([1, 3, 8, 16])
    """
    height, width = image.shape[-2:]
    least = minimum if isinstance(minimum, tuple) else (minimum, minimum)
    smallest = tuple(side + -side % multiple for side in least)
    rows = max(smallest[0], height + -height % multiple) - height
    columns = max(smallest[1], width + -width % multiple) - width
    if not rows and not columns:
        return image
    mode = "reflect" if rows < height and columns < width else "replicate"
    return F.pad(image, (0, columns, 0, rows), mode=mode)
