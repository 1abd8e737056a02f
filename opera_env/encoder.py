"""A small convolutional encoder: how learned agents, the critic and the detector see an image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from opera_env.tools.nets.unet import ResidualBlock

WINDOW = 64
"""Side of the windows whose spectra are averaged: several times as wide as the blurs that show in them."""

_HISTOGRAM_BINS = 64
"""Grey levels of the distributions."""


class ImageEncoder(nn.Module):
    """Describes images of any size by statistics of what it sees in them.

    The first layer sees every pixel, and beside it how much it differs from its neighbours, which is where
    noise, compression and blur show. Mean and deviation of every stage's channels are kept, so that fine
    damage is not averaged away on the way to large structure. Two descriptions that convolutions learn
    slowly are given: the mean spectrum, in which blur, blocks and enlargement have each their pattern, and
    how bright the brightest and the darkest channel are, which low light and haze change.

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
        self.spectrum = nn.Sequential(
            *(nn.Unflatten(1, (1, WINDOW)), nn.Conv2d(1, 16, 5, 2, 2), nn.ReLU()),
            *(nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 32, 3, 2, 1), nn.ReLU(), nn.Flatten()),
            *(nn.Linear(32 * 8 * 5, 128), nn.ReLU()),
        )
        self.brightness = nn.Sequential(nn.Linear(2 * _HISTOGRAM_BINS, 64), nn.ReLU())
        described = 2 * sum(widths) + 128 + 64
        self.norm = nn.LayerNorm(described)
        self.out = nn.Linear(described, features)

    def forward(self, images: Tensor) -> Tensor:
        """Returns the descriptions of a batch."""
        detail = images - F.avg_pool2d(images, 3, stride=1, padding=1, count_include_pad=False)
        x = torch.cat([4 * (images - 0.5), 16 * detail], dim=1)
        x = F.relu(self.stem(x.contiguous(memory_format=torch.channels_last)))
        seen = [_statistics(x)]
        for down, block in zip(self.down, self.blocks, strict=True):
            x = F.relu(block(down(x)))
            seen.append(_statistics(x))
        seen += [self.spectrum(log_power_spectrum(images)), self.brightness(intensity_histogram(images))]
        return F.relu(self.out(self.norm(torch.cat(seen, dim=1))))


def _statistics(x: Tensor) -> Tensor:
    """Mean and logarithm of the standard deviation of each channel, (B, C, H, W) to (B, 2 C)."""
    x = x.float()  # whatever it was computed in
    mean = x.mean((2, 3))
    variance = (x - mean[..., None, None]).square().mean((2, 3))
    return torch.cat([mean, 0.5 * (variance + 1e-6).log()], dim=1)


def log_power_spectrum(images: Tensor) -> Tensor:
    """Returns the logarithm of the power spectrum of grey images, averaged over overlapping windows.

    What a blur takes from every window it takes from the mean of the logarithms, whatever is to be seen in
    the image.

    Args:
        images: float32 (B, 3, H, W); smaller ones are continued beyond their border.

    Returns:
        (B, WINDOW, WINDOW // 2 + 1), divided by 4; the frequency 0 is in the middle of the first column.

    Example:
        >>> stripes = torch.arange(96).remainder(4).lt(2).float().expand(1, 3, 80, 96)  # period 4
        >>> divmod(log_power_spectrum(stripes)[0].argmax().item(), WINDOW // 2 + 1)
        (32, 16)
    """
    grey = images.mean(1, keepdim=True)
    rows, columns = (max(0, WINDOW - side) for side in grey.shape[-2:])
    grey = F.pad(grey, (0, columns, 0, rows), mode="replicate")
    step = WINDOW // 2
    windows = grey.unfold(2, WINDOW, step).unfold(3, WINDOW, step).flatten(1, 3)
    windows = windows - windows.mean((-2, -1), keepdim=True)
    fade = torch.hann_window(WINDOW, device=images.device)
    power = torch.fft.rfft2(windows * fade[:, None] * fade).abs().square()
    return (power + 1e-4).log().mean(1).roll(step, 1) / 4


def intensity_histogram(images: Tensor) -> Tensor:
    """Returns which share of the pixels is darker than each of several levels, without gradients.

    Args:
        images: float32 (B, 3, H, W) in [0, 1].

    Returns:
        (B, 128): by the brightest channel of each pixel, then by the darkest one.
    """
    images = images.detach()
    extremes = torch.stack([images.amax(1), images.amin(1)], dim=1).flatten(0, 1)
    counts = torch.stack([torch.histc(one, _HISTOGRAM_BINS, 0, 1) for one in extremes.clamp(0, 1)])
    shares = counts.cumsum(1) / extremes[0].numel()
    return shares.view(len(images), -1)


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
