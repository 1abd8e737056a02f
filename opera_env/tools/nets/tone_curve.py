"""A tone curve that is found from the image it is laid over."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_GRID = 64
"""Sides of the grid of pixels that are sorted: sorting all of them would cost more than a tool."""
_QUANTILES = 17
"""Of the brightest and of the darkest channel, from the least value to the largest."""
_FLOOR = 1e-3
"""A power has no slope at 0."""
_PACE = 10.0
"""How much faster than the networks around it a curve learns at the same learning rate of Adam."""
_LIMIT = 1.5
"""Largest logarithm of gain and power, and largest lift: the curve must not run away on an odd image."""


class ToneCurve(nn.Module):
    """Lays (gain x + lift) ** power over an image.

    Which gain, lift and power, a small network reads off the image's quantiles: whether a photograph is
    too dark shows in the whole of it, and in no window of it. Until it is trained it changes nothing, and
    what lies outside [0, 1] it moves as it moves 0 and 1.

    Args:
        hidden: Units that read the quantiles.

    Shape:
        float32 (B, 3, H, W), nominally in [0, 1], to the same shape, not clamped.
    """

    def __init__(self, hidden: int = 64) -> None:
        super().__init__()
        self.hidden = nn.Linear(2 * 2 * _QUANTILES, hidden)
        self.out = nn.Linear(hidden, 3)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def statistics(self, image: Tensor) -> Tensor:
        """Quantiles of the brightest and of the darkest channel, (B, 34) in [0, 1]."""
        sample = F.interpolate(image, size=(_GRID, _GRID), mode="nearest").clamp(0, 1)
        extremes = torch.stack([sample.amax(1), sample.amin(1)], dim=1).flatten(2)
        places = torch.linspace(0, extremes.shape[-1] - 1, _QUANTILES, device=image.device).round().long()
        return extremes.sort(dim=-1).values[..., places].flatten(1)

    def forward(self, image: Tensor, known: Tensor | None = None) -> Tensor:
        """Changes the tone of an image, or of a part of one whose :meth:`statistics` are given."""
        known = self.statistics(image) if known is None else known
        seen = torch.cat([known - 0.5, (known + 0.02).log() / 2 + 0.5], dim=1)
        change = _LIMIT * (_PACE * self.out(F.relu(self.hidden(seen)))).tanh()
        gain, lift, power = change[..., None, None].split(1, dim=1)
        within = image.clamp(_FLOOR, 1)
        return image + ((gain.exp() * within + lift).clamp_min(_FLOOR) ** power.exp() - within)
