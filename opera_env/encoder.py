"""The image encoder of the learned agents and the critic, and the degradation detector."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from opera_env.errors import AgentError
from opera_env.tools.nets.unet import ResidualBlock

SPECTRUM_WINDOW = 64
"""Side, in pixels, of the windows whose power spectra are averaged: several times the width of a blur."""

WINDOW_SIDE = 128
"""Side, in pixels, of the windows and of the overview of :class:`WindowedEncoder`."""

_MAX_WINDOWS = 3
"""Maximum number of windows along each axis."""

_HISTOGRAM_BINS = 64
"""Number of bins of the intensity histograms."""


class ImageEncoder(nn.Module):
    """A small convolutional network from images of any size to feature vectors.

    Its input is each pixel and the difference to its neighbours, where noise, compression and blur are
    visible. The features are the mean and the standard deviation of the channels of every stage, so that
    fine degradations are not averaged away in later stages. Two more inputs are given, because convolutions
    learn them slowly: the mean power spectrum, in which blur, JPEG blocks and upscaling show distinct
    patterns, and the histograms of the brightest and of the darkest channel, which low light and haze
    change.

    Args:
        widths: Channels per stage; each stage halves the height and the width.
        features_dim: Length of a feature vector.

    Shape:
        float32 (B, 3, H, W) in [0, 1] to float32 (B, features_dim).

    Example:
        >>> ImageEncoder()(torch.zeros(2, 3, 37, 53)).shape
        torch.Size([2, 256])
    """

    def __init__(self, widths: Sequence[int] = (24, 40, 80, 160), features_dim: int = 256) -> None:
        super().__init__()
        self.features_dim = features_dim
        self.stem = nn.Conv2d(6, widths[0], 5, stride=2, padding=2)
        self.down = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in zip(widths, widths[1:], strict=False)
        )
        self.blocks = nn.ModuleList(ResidualBlock(width) for width in widths[1:])
        self.spectrum = nn.Sequential(
            *(nn.Unflatten(1, (1, SPECTRUM_WINDOW)), nn.Conv2d(1, 16, 5, 2, 2), nn.ReLU()),
            *(nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 32, 3, 2, 1), nn.ReLU(), nn.Flatten()),
            *(nn.Linear(32 * 8 * 5, 128), nn.ReLU()),
        )
        self.brightness = nn.Sequential(nn.Linear(2 * _HISTOGRAM_BINS, 64), nn.ReLU())
        num_statistics = 2 * sum(widths) + 128 + 64
        self.norm = nn.LayerNorm(num_statistics)
        self.out = nn.Linear(num_statistics, features_dim)

    def forward(self, images: Tensor) -> Tensor:
        """Returns the feature vectors of a batch of images, (B, 3, H, W) to (B, features_dim)."""
        detail = images - F.avg_pool2d(images, 3, stride=1, padding=1, count_include_pad=False)
        x = torch.cat([4 * (images - 0.5), 16 * detail], dim=1)
        x = F.relu(self.stem(x.contiguous(memory_format=torch.channels_last)))
        statistics = [_channel_statistics(x)]
        for down, block in zip(self.down, self.blocks, strict=True):
            x = F.relu(block(down(x)))
            statistics.append(_channel_statistics(x))
        statistics += [
            self.spectrum(log_power_spectrum(images)),
            self.brightness(intensity_histogram(images)),
        ]
        return F.relu(self.out(self.norm(torch.cat(statistics, dim=1))))


def _channel_statistics(x: Tensor) -> Tensor:
    """Returns mean and log standard deviation of each channel, (B, C, H, W) to (B, 2 C)."""
    x = x.float()  # the convolutions may run in lower precision
    mean = x.mean((2, 3))
    variance = (x - mean[..., None, None]).square().mean((2, 3))
    return torch.cat([mean, 0.5 * (variance + 1e-6).log()], dim=1)


def log_power_spectrum(images: Tensor) -> Tensor:
    """Returns the log power spectrum of the grey image, averaged over overlapping windows.

    A blur multiplies the spectrum of every window by the same factors. It therefore shifts the mean of the
    logarithms by the same amounts, whatever the image shows.

    Args:
        images: float32 (B, 3, H, W) in [0, 1]. Images smaller than a window are padded by replication.

    Returns:
        float32 (B, SPECTRUM_WINDOW, SPECTRUM_WINDOW // 2 + 1), divided by 4. Frequency 0 is in the middle
        of column 0.

    Example:
        >>> stripes = torch.arange(96).remainder(4).lt(2).float().expand(1, 3, 80, 96)  # period 4
        >>> divmod(log_power_spectrum(stripes)[0].argmax().item(), SPECTRUM_WINDOW // 2 + 1)
        (32, 16)
    """
    grey = images.mean(1, keepdim=True)
    rows, columns = (max(0, SPECTRUM_WINDOW - side) for side in grey.shape[-2:])
    grey = F.pad(grey, (0, columns, 0, rows), mode="replicate")
    step = SPECTRUM_WINDOW // 2
    windows = grey.unfold(2, SPECTRUM_WINDOW, step).unfold(3, SPECTRUM_WINDOW, step).flatten(1, 3)
    windows = windows - windows.mean((-2, -1), keepdim=True)
    hann = torch.hann_window(SPECTRUM_WINDOW, device=images.device)
    power = torch.fft.rfft2(windows * hann[:, None] * hann).abs().square()
    return (power + 1e-4).log().mean(1).roll(step, 1) / 4


def intensity_histogram(images: Tensor) -> Tensor:
    """Returns the cumulative histograms of the brightest and of the darkest channel, without gradients.

    Args:
        images: float32 (B, 3, H, W) in [0, 1].

    Returns:
        float32 (B, 128) in [0, 1]: the fraction of pixels up to each of 64 levels, first of the brightest
        channel of each pixel, then of the darkest.
    """
    images = images.detach()
    extremes = torch.stack([images.amax(1), images.amin(1)], dim=1).flatten(0, 1)
    counts = torch.stack([torch.histc(channel, _HISTOGRAM_BINS, 0, 1) for channel in extremes.clamp(0, 1)])
    fractions = counts.cumsum(1) / extremes[0].numel()
    return fractions.view(len(images), -1)


class WindowedEncoder(nn.Module):
    """An encoder of photographs of any size: it sees windows at full resolution and one overview.

    Noise and compression are visible in single pixels, and differ from place to place; haze and brightness
    are visible in a small copy of the whole. Up to nine windows, evenly spaced, and the overview are
    encoded by one :class:`ImageEncoder`. The features are a linear combination of mean, maximum and
    minimum over the windows and of the features of the overview. The time does not grow with the size of
    the photograph, except for reading it once.

    Shape:
        float32 (B, 3, H, W) in [0, 1] to float32 (B, features_dim).

    Example:
        >>> WindowedEncoder()(torch.zeros(1, 3, 300, 500)).shape
        torch.Size([1, 256])
    """

    def __init__(self) -> None:
        super().__init__()
        self.image = ImageEncoder()
        self.features_dim = self.image.features_dim
        self.mix = nn.Linear(4 * self.features_dim, self.features_dim)

    def forward(self, images: Tensor) -> Tensor:
        """Returns the feature vectors of a batch of images, (B, 3, H, W) to (B, features_dim)."""
        windows = full_resolution_windows(images)
        count = windows.shape[1]
        seen = self.image(windows.flatten(0, 1)).unflatten(0, (-1, count))
        overview = self.image(reduce_to_overview(images))
        return F.relu(self.mix(torch.cat([seen.mean(1), seen.amax(1), seen.amin(1), overview], dim=1)))


def full_resolution_windows(images: Tensor) -> Tensor:
    """Cuts evenly spaced windows out of images.

    Args:
        images: (B, 3, H, W).

    Returns:
        (B, N, 3, h, w): as many windows of 128 pixels along each axis as cover it, at most three; one
        window of the whole axis where the image is smaller.

    Example:
        >>> full_resolution_windows(torch.zeros(1, 3, 200, 1000)).shape
        torch.Size([1, 6, 3, 128, 128])
    """
    starts, sides = zip(*(_window_starts(length) for length in images.shape[-2:]), strict=True)
    return torch.stack(
        [
            images[..., top : top + sides[0], left : left + sides[1]]
            for top in starts[0]
            for left in starts[1]
        ],
        dim=1,
    )


def _window_starts(length: int) -> tuple[list[int], int]:
    """Returns the first pixels of the windows along an axis, and their length."""
    side = min(length, WINDOW_SIDE)
    count = min(_MAX_WINDOWS, -(-length // WINDOW_SIDE))
    gap = (length - side) / max(1, count - 1)
    return [round(index * gap) for index in range(count)], side


def reduce_to_overview(images: Tensor) -> Tensor:
    """Reduces images, (B, 3, H, W), so that the longer side has at most 128 pixels."""
    height, width = images.shape[-2:]
    factor = min(1.0, WINDOW_SIDE / max(height, width))
    if factor == 1:
        return images
    size = (max(1, round(height * factor)), max(1, round(width * factor)))
    return F.interpolate(images, size, mode="bilinear", antialias=True)


Encoder: TypeAlias = ImageEncoder | WindowedEncoder
"""An image encoder of agents, detectors and critics."""

EncoderKind: TypeAlias = Literal["image", "windows-1"]
"""``image`` is :class:`ImageEncoder`, and ``windows-1`` the first version of :class:`WindowedEncoder`.

Cards of trained networks name it; a change of a network gets another name."""


def make_encoder(kind: str) -> Encoder:
    """Returns a new encoder of a kind, with random weights.

    Raises:
        AgentError: If there is no such kind.
    """
    kinds: Mapping[str, type[Encoder]] = {"image": ImageEncoder, "windows-1": WindowedEncoder}
    if kind not in kinds:
        raise AgentError(
            f"expected an encoder of {', '.join(kinds)}, found {kind!r}: update opera-env, or train again."
        )
    return kinds[kind]()


class Detector(nn.Module):
    """Predicts which degradations an image has: an encoder and a linear layer.

    Args:
        num_labels: Number of degradations.
        encoder: The image encoder, which is shared and not copied; None for a new one.
    """

    def __init__(self, num_labels: int, encoder: Encoder | None = None) -> None:
        super().__init__()
        self.encoder = encoder or ImageEncoder()
        self.head = nn.Linear(self.encoder.features_dim, num_labels)

    def forward(self, images: Tensor) -> Tensor:
        """Returns the logits of the degradations, (B, 3, H, W) to (B, num_labels)."""
        return self.head(self.encoder(images))


def encode_by_size(
    encode: Callable[[Tensor], Tensor],
    images: Sequence[Tensor],
    device: torch.device,
    max_batch_pixels: int | None = None,
) -> Tensor:
    """Encodes images of any sizes; images of one size share a batch.

    Args:
        encode: A network, (B, 3, H, W) to (B, F).
        images: At least one image, float32 (3, H, W) in [0, 1], on any device.
        device: The device of the network.
        max_batch_pixels: Largest batch in pixels, which bounds the memory; None for no bound.

    Returns:
        The network's outputs in the order of the images, (number of images, F), on ``device``.
    """
    by_size: dict[torch.Size, list[int]] = {}
    for index, image in enumerate(images):
        by_size.setdefault(image.shape, []).append(index)
    outputs: dict[int, Tensor] = {}
    for (_, height, width), indices in by_size.items():
        batch_size = len(indices)
        if max_batch_pixels is not None:
            batch_size = max(1, max_batch_pixels // (height * width))
        for start in range(0, len(indices), batch_size):
            rows = indices[start : start + batch_size]
            batch = torch.stack([images[row] for row in rows]).to(device)
            outputs.update(zip(rows, encode(batch), strict=True))
    return torch.stack([outputs[index] for index in range(len(images))])
