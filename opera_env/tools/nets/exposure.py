"""A local tone curve: from an overview of the image, a network predicts a bilateral grid of gains."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_OVERVIEW = 64
"""Side, in cells, of the overview of an image, whatever its size."""
_GRID = 16
"""Side, in cells, of the grid of tone curves."""
_KNOTS = 8
"""Intervals of a tone curve. Its knots lie at (k / 8) ** 2, densest in the shadows."""
_STEEPNESS = 1.8
"""Bound of the slopes of log-gains; from 2 on, a curve may fall where the image becomes brighter."""
_MAX_LOG_GAIN = 0.4
"""Bound of the logarithm of the gain of white."""
_MAX_LOG_COLOUR = 0.3
"""Bound of the logarithm of the gain of a channel before their mean is subtracted."""
_EPSILON = 1e-6
"""Smallest brightness of which a root is taken; the root has no finite gradient at 0."""


class LocalToneCurve(nn.Module):
    """Multiplies every pixel by a gain that depends on its brightness, its place and the whole image.

    The network predicts a tone curve for each cell of a coarse grid. Brightness is that of the brightest
    channel, and the gain of a pixel is interpolated between cells and between knots of the curves. Every
    curve rises with brightness, and black stays black. One gain for each channel corrects the colour of
    the light. Before training all gains are 1. Values outside [0, 1] are shifted by as much as 0 and 1 are.

    Args:
        width: Channels of the network.

    Shape:
        float32 (B, 3, H, W), nominally in [0, 1], to the same shape, not clamped.

    Source: the bilateral grid of Gharbi et al., "Deep Bilateral Learning for Real-Time Image Enhancement",
        2017. Departures: the grid holds log-gains of monotonic curves instead of affine transformations,
        and brightness itself is the guide.
    """

    halo, statistics_source = 0, "full"

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.global_context = True
        self.encoder = nn.Sequential(
            nn.Conv2d(8, width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1),
            nn.ReLU(),
        )
        self.whole = nn.Linear(4 * width, 2 * width)
        self.mix = nn.Conv2d(2 * width, 2 * width, 3, padding=1)
        self.curves = nn.Conv2d(2 * width, _KNOTS + 1, 1)
        self.colour = nn.Linear(2 * width, 3)
        for layer in (self.curves, self.colour):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)  # pyright: ignore[reportArgumentType]

    def statistics(self, image: Tensor) -> tuple[Tensor, ...]:
        """Predicts the curves of a whole image.

        Args:
            image: float32 (B, 3, H, W).

        Returns:
            The log-gains of the curves, (B, 9, 16, 16), from black to white; the log-gains of the channels,
            (B, 3); and the place of the pixels to which they apply, (B, 4): top, left, and the height and
            width of the whole image, in pixels.
        """
        features = self.encoder(_overview(image))
        whole = self.whole(torch.cat([features.mean((2, 3)), features.amax((2, 3))], dim=1)).relu()
        cells = F.relu(self.mix(features) + whole[..., None, None])
        predicted = self.curves(cells).float().tanh()
        slopes = _STEEPNESS / torch.arange(1, _KNOTS + 1, device=image.device)
        rises = (predicted[:, :-1] * slopes[:, None, None]).flip(1).cumsum(1).flip(1)
        white = _MAX_LOG_GAIN * predicted[:, -1:]
        colour = _MAX_LOG_COLOUR * self.colour(whole).float().tanh()
        place = torch.tensor([0, 0, *image.shape[-2:]], dtype=torch.float32, device=image.device)
        return (
            torch.cat([rises + white, white], dim=1),
            colour - colour.mean(dim=1, keepdim=True),
            place.expand(len(image), 4),
        )

    def locate(self, statistics: tuple[Tensor, ...], top: int, left: int) -> tuple[Tensor, ...]:
        """Returns the statistics for a tile whose first pixel is at (``top``, ``left``)."""
        curves, colour, place = statistics
        return (
            curves,
            colour,
            torch.cat([place.new_tensor([[top, left]]).expand(len(place), 2), place[:, 2:]], 1),
        )

    def forward(self, image: Tensor, statistics: tuple[Tensor, ...] | None = None) -> Tensor:
        """Applies the curves to an image, or to a tile of an image with statistics from :meth:`locate`."""
        curves, colour, place = self.statistics(image) if statistics is None else statistics
        clamped = image.clamp(0, 1)
        position = clamped.amax(1).clamp_min(_EPSILON).sqrt()
        log_gain = _slice(curves.expand(len(image), -1, -1, -1), position, place.expand(len(image), 4))
        return image + clamped * (log_gain[:, None] + colour[..., None, None]).expm1()


def _overview(image: Tensor) -> Tensor:
    """Returns the mean, its logarithm, the maximum and the minimum of each cell, (B, 8, 64, 64)."""
    side = (_OVERVIEW, _OVERVIEW)
    mean = F.adaptive_avg_pool2d(image, side).clamp(0, 1)
    brightest = F.adaptive_max_pool2d(image.amax(1, keepdim=True), side).clamp(0, 1)
    darkest = 1 - F.adaptive_max_pool2d(1 - image.amin(1, keepdim=True), side).clamp(0, 1)
    return torch.cat([mean - 0.5, (mean + 0.02).log() / 2 + 0.5, brightest - 0.5, darkest - 0.5], dim=1)


def _slice(curves: Tensor, position: Tensor, place: Tensor) -> Tensor:
    """Reads log-gains at pixels.

    Args:
        curves: (B, K + 1, G, G), the values at the knots.
        position: (B, H, W) in [0, 1], the position between the knots.
        place: (B, 4): top, left, and the height and width of the whole image, in pixels.

    Returns:
        (B, H, W).
    """
    count, height, width = position.shape
    depth = (2 * _KNOTS * position + 1) / (_KNOTS + 1) - 1
    rows = torch.arange(height, device=position.device) + 0.5
    columns = torch.arange(width, device=position.device) + 0.5
    y = 2 * (place[:, :1] + rows) / place[:, 2:3] - 1
    x = 2 * (place[:, 1:2] + columns) / place[:, 3:4] - 1
    where = torch.stack(
        [x[:, None].expand(count, height, width), y[..., None].expand(count, height, width), depth], dim=-1
    )
    sampled = F.grid_sample(
        curves[:, None].float(), where[:, None], padding_mode="border", align_corners=False
    )
    return sampled[:, 0, 0]
