"""The window of a photograph that an agent plans on."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_WINDOW_STRIDE = 16
"""Distance between candidate windows, in pixels."""


def representative_window(image: Tensor, side: int) -> Tensor:
    """Cuts out the window that is most like the whole image in brightness and contrast.

    The window keeps the resolution of the image, because noise, blur and compression artefacts are
    visible in single pixels only. Haze and low light show in brightness and contrast, so the window is
    the one whose mean and standard deviation are closest to those of the image.

    Args:
        image: float32 (3, H, W).
        side: Height and width of the window, in pixels; less where the image is smaller.

    Returns:
        A view of the image, (3, min(side, H), min(side, W)).
    """
    height, width = image.shape[-2:]
    if height <= side and width <= side:
        return image
    luma = image.mean(0, keepdim=True)[None]
    block = min(_WINDOW_STRIDE, height, width)
    means, squares = F.avg_pool2d(luma, block), F.avg_pool2d(luma.square(), block)
    blocks = [min(max(1, side // block), length) for length in means.shape[-2:]]
    window = F.avg_pool2d(torch.cat([means, squares], dim=1), blocks, stride=1)[0]
    deviation = (window[1] - window[0].square()).clamp_min(0).sqrt()
    image_deviation = (squares.mean() - means.mean().square()).clamp_min(0).sqrt()
    distance = (window[0] - means.mean()).abs() + (deviation - image_deviation).abs()
    row, column = divmod(int(distance.argmin()), distance.shape[1])
    top, left = (
        max(0, min(start * block, length - side)) for start, length in ((row, height), (column, width))
    )
    return image[:, top : top + side, left : left + side]
