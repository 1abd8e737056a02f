"""A small convolutional encoder: how learned agents, the critic and the detector see an image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from opera_env.tools.nets.unet import ResidualBlock


class ImageEncoder(nn.Module):
    """Describes images of any size by statistics of what it sees in them.

    The first layer sees every pixel, and beside it how much it differs from its neighbours, which is where
    noise, compression and blur show. Mean and deviation of every stage's channels are kept, so that fine
    damage is not averaged away on the way to large structure.

    Args:
        widths: Channels per stage; each stage halves the image.
        features: Length of the description.

    Shape:
        float32 (B, 3, H, W) in [0, 1] to float32 (B, features).

    Example:
        >>> ImageEncoder()(torch.zeros(2, 3, 37, 53)).shape
        torch.Size([2, 256])
    """

    def __init__(self, widths: Sequence[int] = (24, 40, 80, 160), features: int = 256) -> None:
        super().__init__()
        self.features = features
        self.stem = nn.Conv2d(6, widths[0], 5, stride=2, padding=2)
        self.down = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in zip(widths, widths[1:], strict=False)
        )
        self.blocks = nn.ModuleList(ResidualBlock(width) for width in widths[1:])
        self.norm = nn.LayerNorm(2 * sum(widths))
        self.out = nn.Linear(2 * sum(widths), features)

    def forward(self, images: Tensor) -> Tensor:
        """Returns the descriptions of a batch."""
        detail = images - F.avg_pool2d(images, 3, stride=1, padding=1, count_include_pad=False)
        x = torch.cat([4 * (images - 0.5), 16 * detail], dim=1)
        x = F.relu(self.stem(x.contiguous(memory_format=torch.channels_last)))
        seen = [_statistics(x)]
        for down, block in zip(self.down, self.blocks, strict=True):
            x = F.relu(block(down(x)))
            seen.append(_statistics(x))
        return F.relu(self.out(self.norm(torch.cat(seen, dim=1))))


def _statistics(x: Tensor) -> Tensor:
    """Mean and logarithm of the standard deviation of each channel, (B, C, H, W) to (B, 2 C)."""
    mean = x.mean((2, 3))
    variance = (x - mean[..., None, None]).square().mean((2, 3))
    return torch.cat([mean, 0.5 * (variance + 1e-6).log()], dim=1)


class Detector(nn.Module):
    """Tells which degradations an image has.

    Args:
        labels: How many kinds of degradation there are.
        encoder: How it sees; one of its own by default.

    Attributes:
        encoder: Shared with whoever handed it in.
    """

    def __init__(self, labels: int, encoder: ImageEncoder | None = None) -> None:
        super().__init__()
        self.encoder = encoder or ImageEncoder()
        self.head = nn.Linear(self.encoder.features, labels)

    def forward(self, images: Tensor) -> Tensor:
        """Returns the log-odds of each degradation, (B, 3, H, W) to (B, labels)."""
        return self.head(self.encoder(images))
