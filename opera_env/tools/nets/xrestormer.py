"""X-Restormer: Restormer with attention between pixels of overlapping windows in turn."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from opera_env.tools.nets.restormer import (
    ChannelAttention,
    GatedFeedForward,
    Norm,
    StatisticsTape,
    TransformerUNet,
)


class RelativePosition(nn.Module):
    """Attention logits for the distance between a pixel of a window and one of the larger window around it.

    Args:
        window: Side of the window in pixels.
        overlapping: Side of the larger window in pixels, which has the same centre.
        head_dim: Length of a query.
    """

    index: Tensor

    def __init__(self, window: int, overlapping: int, head_dim: int) -> None:
        super().__init__()
        shape = 2 * overlapping - 1, head_dim
        self.rel_height = nn.Parameter(torch.randn(shape) * head_dim**-0.5)
        self.rel_width = nn.Parameter(torch.randn(shape) * head_dim**-0.5)
        index = overlapping - 1 + torch.arange(overlapping) - torch.arange(window)[:, None]
        self.register_buffer("index", index, persistent=False)  # row of the table by query and key

    def forward(self, query: Tensor) -> Tensor:
        """Returns the logits (N, window², overlapping²) of queries (N, window², head_dim)."""
        window, overlapping = self.index.shape
        grid = query.unflatten(1, (window, window))
        by_row = torch.einsum("nyxd,yid->nyxi", grid, self.rel_height[self.index])
        by_column = torch.einsum("nyxd,xjd->nyxj", grid, self.rel_width[self.index])
        logits = by_row[..., None] + by_column[..., None, :]
        return logits.reshape(len(query), window**2, overlapping**2)


class OverlappingAttention(nn.Module):
    """Attention from each pixel of a window to all pixels of the larger window around it.

    Outside the image, the larger windows hold zeros.

    Args:
        channels: Number of channels of the input and of the result.
        heads: Number of attention heads.
        head_dim: Channels of a head.
        window: Side of a window in pixels.
        overlap: By how much the larger window is larger, as a fraction of ``window``.
    """

    def __init__(self, channels: int, heads: int, head_dim: int, window: int, overlap: float) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.overlapping = window + int(window * overlap)
        self.qkv = nn.Conv2d(channels, 3 * heads * head_dim, 1, bias=False)
        self.project_out = nn.Conv2d(heads * head_dim, channels, 1, bias=False)
        self.rel_pos_emb = RelativePosition(window, self.overlapping, head_dim)
        self.halo = window - 1 + (self.overlapping - window) // 2

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        query, key, value = self.qkv(x).chunk(3, dim=1)
        query = self._windows(query, self.window)
        key, value = (self._windows(part, self.overlapping) for part in (key, value))
        query = query * query.shape[-1] ** -0.5
        logits = query @ key.transpose(1, 2) + self.rel_pos_emb(query)
        attended = (logits.softmax(dim=-1) @ value).transpose(1, 2)
        columns = attended.reshape(len(x), -1, self.heads * attended.shape[1] * self.window**2)
        folded = F.fold(columns.transpose(1, 2), (height, width), self.window, stride=self.window)
        return self.project_out(folded)

    def _windows(self, x: Tensor, side: int) -> Tensor:
        """Cuts (B, heads * D, H, W) into windows around those of the grid: (N, side², D).

        N counts images, windows and heads, the last fastest.
        """
        columns = F.unfold(x, side, padding=(side - self.window) // 2, stride=self.window)
        return columns.transpose(1, 2).reshape(-1, x.shape[1] // self.heads, side**2).transpose(1, 2)


class XTransformerBlock(nn.Module):
    """A block of channel attention, then one of attention in overlapping windows."""

    def __init__(
        self,
        channels: int,
        channel_heads: int,
        spatial_heads: int,
        head_dim: int,
        window: int,
        overlap: float,
        expansion: float,
    ) -> None:
        super().__init__()
        self.spatial_attn = OverlappingAttention(channels, spatial_heads, head_dim, window, overlap)
        self.channel_attn = ChannelAttention(channels, channel_heads)
        self.norm1, self.norm2, self.norm3, self.norm4 = (Norm(channels, False) for _ in range(4))
        self.channel_ffn = GatedFeedForward(channels, expansion)
        self.spatial_ffn = GatedFeedForward(channels, expansion)
        self.halo = ChannelAttention.halo + 2 * GatedFeedForward.halo + self.spatial_attn.halo

    def forward(self, x: Tensor, tape: StatisticsTape) -> Tensor:
        x = x + self.channel_attn(self.norm1(x), tape)
        x = x + self.channel_ffn(self.norm2(x))
        x = x + self.spatial_attn(self.norm3(x))
        return x + self.spatial_ffn(self.norm4(x))


class XRestormer(TransformerUNet):
    """Predicts the residual that is added to the image, with attention between channels and in windows.

    Args:
        dim: Channels of the first level; every further level has twice as many.
        num_blocks: Number of blocks of each of the four levels, finest first.
        num_refinement_blocks: Number of blocks after the last decoder level.
        channel_heads: Number of heads of channel attention of each level, finest first.
        spatial_heads: Number of heads of attention in windows of each level, finest first.
        head_dim: Channels of a head of attention in windows.
        window: Side of a window, in pixels of its level.
        overlap: By how much the windows that are attended to are larger, as a fraction of ``window``.
        expansion: Channels of the feed-forward layers, as a multiple of the level's.
        scale: Factor by which the image is enlarged, bilinearly, before the network: 1, 2 or 4.

    Attributes:
        multiple: Height and width of the input must be multiples of this number of pixels.

    Shape:
        float32 (B, 3, H, W) in [0, 1] to (B, 3, scale * H, scale * W), not clamped. H and W are multiples
        of ``multiple``.

    Source: Chen et al., "A Comparative Study of Image Restoration Networks for General Backbone Network
        Design", ECCV 2024. Departure: a tile can be given the weights of channel attention of the whole
        image.
    """

    def __init__(
        self,
        dim: int = 48,
        num_blocks: Sequence[int] = (2, 4, 4, 4),
        num_refinement_blocks: int = 4,
        channel_heads: Sequence[int] = (1, 2, 4, 8),
        spatial_heads: Sequence[int] = (1, 2, 4, 8),
        head_dim: int = 16,
        window: int = 8,
        overlap: float = 0.5,
        expansion: float = 2.66,
        scale: int = 1,
    ) -> None:
        def make_block(channels: int, level: int) -> nn.Module:
            heads = channel_heads[level], spatial_heads[level]
            return XTransformerBlock(channels, *heads, head_dim, window, overlap, expansion)

        super().__init__(dim, num_blocks, num_refinement_blocks, make_block)
        self.scale, self.multiple = scale, max(1, 8 * window // scale)

    def _restore(self, image: Tensor, tape: StatisticsTape) -> Tensor:
        if self.scale > 1:
            image = F.interpolate(image, scale_factor=self.scale, mode="bilinear", align_corners=False)
        return super()._restore(image, tape)
