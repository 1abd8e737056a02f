"""A tone curve whose parameters a small network predicts from the image itself."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_GRID_SIDE = 64
"""Side of the grid of sampled pixels; sorting all pixels would take longer than running a tool."""
_NUM_QUANTILES = 17
"""Quantiles of the per-pixel maximum and minimum over the channels, from the smallest to the largest."""
_EPSILON = 1e-3
"""Smallest base of the power, which has no finite gradient at 0."""
_LR_MULTIPLIER = 10.0
"""Factor on the output layer: with Adam, the curve changes this many times faster than other networks."""
_MAX_LOG_GAIN = 1.5
"""Bound of the logarithms of gain and power, and of the lift, so that unusual images stay in range."""


class ToneCurve(nn.Module):
    """Applies ``(gain * x + lift) ** power`` to an image.

    A small network predicts gain, lift and power from quantiles of the whole image, because only the whole
    image shows whether a photograph is too dark. Before training the curve is the identity. Values outside
    [0, 1] are shifted by as much as 0 and 1 are.

    Args:
        hidden: Hidden units of the network that reads the quantiles.

    Shape:
        float32 (B, 3, H, W), nominally in [0, 1], to the same shape, not clamped.
    """

    def __init__(self, hidden: int = 64) -> None:
        super().__init__()
        self.hidden = nn.Linear(2 * 2 * _NUM_QUANTILES, hidden)
        self.out = nn.Linear(hidden, 3)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def statistics(self, image: Tensor) -> Tensor:
        """Returns quantiles of the brightest and of the darkest channel, (B, 34) in [0, 1]."""
        sample = F.interpolate(image, size=(_GRID_SIDE, _GRID_SIDE), mode="nearest").clamp(0, 1)
        extremes = torch.stack([sample.amax(1), sample.amin(1)], dim=1).flatten(2)
        last = extremes.shape[-1] - 1
        indices = torch.linspace(0, last, _NUM_QUANTILES, device=image.device).round().long()
        return extremes.sort(dim=-1).values[..., indices].flatten(1)

    def forward(self, image: Tensor, statistics: Tensor | None = None) -> Tensor:
        """Applies the curve to an image, or to a tile of an image whose :meth:`statistics` are given."""
        quantiles = self.statistics(image) if statistics is None else statistics
        features = torch.cat([quantiles - 0.5, (quantiles + 0.02).log() / 2 + 0.5], dim=1)
        predicted = self.out(F.relu(self.hidden(features)))
        curve = _MAX_LOG_GAIN * (_LR_MULTIPLIER * predicted).tanh()
        gain, lift, power = curve[..., None, None].split(1, dim=1)
        clamped = image.clamp(_EPSILON, 1)
        return image + ((gain.exp() * clamped + lift).clamp_min(_EPSILON) ** power.exp() - clamped)
