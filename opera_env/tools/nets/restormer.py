"""Restormer: a U-shaped transformer whose attention is between channels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class StatisticsTape:
    """Statistics of a whole image, in the order in which the layers of a network need them.

    Args:
        given: The statistics, if they are known; None to compute them layer by layer.

    Attributes:
        computed: The statistics that were computed so far.
    """

    def __init__(self, given: Iterable[Tensor] | None = None) -> None:
        self._given = None if given is None else iter(given)
        self.computed: list[Tensor] = []

    def take(self, compute: Callable[[], Tensor]) -> Tensor:
        """Returns the next given statistic, or computes it."""
        if self._given is not None:
            return next(self._given)
        self.computed.append(compute())
        return self.computed[-1]


class BiasFreeNorm(nn.Module):
    """Divides by the standard deviation over the last axis, without subtracting the mean.

    Args:
        channels: Length of the last axis.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x / torch.sqrt(x.var(-1, keepdim=True, unbiased=False) + 1e-5) * self.weight


class Norm(nn.Module):
    """Layer normalisation over the channels of (B, C, H, W).

    Args:
        channels: Number of channels C.
        bias_free: Whether no mean is subtracted and no bias added.
    """

    def __init__(self, channels: int, bias_free: bool) -> None:
        super().__init__()
        self.body = BiasFreeNorm(channels) if bias_free else nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ChannelAttention(nn.Module):
    """Attention between channels, whose weights are statistics of the whole image.

    Args:
        channels: Number of channels of the input and of the result.
        heads: Number of groups of channels.
    """

    halo = 1

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.qkv_dwconv = nn.Conv2d(
            3 * channels, 3 * channels, 3, padding=1, groups=3 * channels, bias=False
        )
        self.project_out = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor, tape: StatisticsTape) -> Tensor:
        batch, channels, height, width = x.shape
        heads = len(self.temperature)
        query, key, value = (
            part.reshape(batch, heads, channels // heads, height * width)
            for part in self.qkv_dwconv(self.qkv(x)).chunk(3, dim=1)
        )

        def attend() -> Tensor:
            products = F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).transpose(-2, -1)
            return (products * self.temperature).softmax(dim=-1)

        return self.project_out((tape.take(attend) @ value).reshape(batch, channels, height, width))


class GatedFeedForward(nn.Module):
    """Two branches of depthwise convolutions, one of which gates the other.

    Args:
        channels: Number of channels of the input and of the result.
        expansion: Number of channels of a branch, as a multiple of ``channels``.
    """

    halo = 1

    def __init__(self, channels: int, expansion: float) -> None:
        super().__init__()
        hidden = int(channels * expansion)
        self.project_in = nn.Conv2d(channels, 2 * hidden, 1, bias=False)
        self.dwconv = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden, bias=False)
        self.project_out = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.dwconv(self.project_in(x)).chunk(2, dim=1)
        return self.project_out(F.gelu(gate) * value)


class TransformerBlock(nn.Module):
    """Channel attention and a gated feed-forward layer, each normalised and added to its input."""

    halo = ChannelAttention.halo + GatedFeedForward.halo

    def __init__(self, channels: int, heads: int, expansion: float, bias_free: bool) -> None:
        super().__init__()
        self.norm1 = Norm(channels, bias_free)
        self.attn = ChannelAttention(channels, heads)
        self.norm2 = Norm(channels, bias_free)
        self.ffn = GatedFeedForward(channels, expansion)

    def forward(self, x: Tensor, tape: StatisticsTape) -> Tensor:
        x = x + self.attn(self.norm1(x), tape)
        return x + self.ffn(self.norm2(x))


class PatchEmbedding(nn.Module):
    """The first convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, channels, 3, padding=1, bias=False)

    def forward(self, image: Tensor) -> Tensor:
        return self.proj(image)


class Downsample(nn.Module):
    """Halves the sides and doubles the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        convolution = nn.Conv2d(channels, channels // 2, 3, padding=1, bias=False)
        self.body = nn.Sequential(convolution, nn.PixelUnshuffle(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class Upsample(nn.Module):
    """Doubles the sides and halves the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        convolution = nn.Conv2d(channels, 2 * channels, 3, padding=1, bias=False)
        self.body = nn.Sequential(convolution, nn.PixelShuffle(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


MakeBlock = Callable[[int, int], nn.Module]
"""Makes a block for a number of channels and a level, 0 to 3. A block has a ``halo``, its receptive-field
radius, and maps (B, C, H, W) and a :class:`StatisticsTape` to (B, C, H, W)."""


class TransformerUNet(nn.Module):
    """The frame that Restormer shares with the networks that are derived from it: four levels, a residual.

    The names of its parameters are those of published checkpoints.

    Args:
        dim: Channels of the first level; every further level has twice as many.
        num_blocks: Number of blocks of each of the four levels, finest first.
        num_refinement_blocks: Number of blocks after the last decoder level.
        make_block: Makes the blocks.

    Attributes:
        multiple: Height and width of the input must be multiples of this number of pixels.
        scale: Factor by which the image is enlarged.
    """

    global_context, statistics_source = True, "windows"
    multiple, scale = 8, 1

    def __init__(
        self, dim: int, num_blocks: Sequence[int], num_refinement_blocks: int, make_block: MakeBlock
    ) -> None:
        super().__init__()

        def make_blocks(count: int, width: int, level: int) -> nn.Sequential:
            return nn.Sequential(*(make_block(width * dim, level) for _ in range(count)))

        self.patch_embed = PatchEmbedding(dim)
        self.encoder_level1 = make_blocks(num_blocks[0], 1, 0)
        self.down1_2 = Downsample(dim)
        self.encoder_level2 = make_blocks(num_blocks[1], 2, 1)
        self.down2_3 = Downsample(2 * dim)
        self.encoder_level3 = make_blocks(num_blocks[2], 4, 2)
        self.down3_4 = Downsample(4 * dim)
        self.latent = make_blocks(num_blocks[3], 8, 3)
        self.up4_3 = Upsample(8 * dim)
        self.reduce_chan_level3 = nn.Conv2d(8 * dim, 4 * dim, 1, bias=False)
        self.decoder_level3 = make_blocks(num_blocks[2], 4, 2)
        self.up3_2 = Upsample(4 * dim)
        self.reduce_chan_level2 = nn.Conv2d(4 * dim, 2 * dim, 1, bias=False)
        self.decoder_level2 = make_blocks(num_blocks[1], 2, 1)
        self.up2_1 = Upsample(2 * dim)
        self.decoder_level1 = make_blocks(num_blocks[0], 2, 0)
        self.refinement = make_blocks(num_refinement_blocks, 2, 0)
        self.output = nn.Conv2d(2 * dim, 3, 3, padding=1, bias=False)

    @property
    def halo(self) -> int:
        """Receptive-field radius in pixels of the input, channel attention apart."""
        levels = (
            (*self.encoder_level1, *self.decoder_level1, *self.refinement),
            (*self.encoder_level2, *self.decoder_level2),
            (*self.encoder_level3, *self.decoder_level3),
            (*self.latent,),
        )
        radius = sum(2**level * block.halo for level, blocks in enumerate(levels) for block in blocks)
        resampling = (1 + 2 + 4) + (2 + 4 + 8)  # a convolution before each change of the size
        # First and last convolution; the position of a pixel in the grid of the coarsest level.
        radius += resampling + 2 + 7
        return radius if self.scale == 1 else math.ceil(radius / self.scale) + 1  # 1: bilinear

    def statistics(self, image: Tensor) -> tuple[Tensor, ...]:
        """Returns the weights of channel attention for a whole image, in the order of the layers."""
        tape = StatisticsTape()
        self._restore(image, tape)
        return tuple(tape.computed)

    def forward(self, image: Tensor, statistics: tuple[Tensor, ...] | None = None) -> Tensor:
        """Restores an image, or a tile of an image whose :meth:`statistics` are given."""
        return self._restore(image, StatisticsTape(statistics))

    def _restore(self, image: Tensor, tape: StatisticsTape) -> Tensor:
        first = run_blocks(self.encoder_level1, self.patch_embed(image), tape)
        second = run_blocks(self.encoder_level2, self.down1_2(first), tape)
        third = run_blocks(self.encoder_level3, self.down2_3(second), tape)
        x = run_blocks(self.latent, self.down3_4(third), tape)
        x = self.up4_3(self._before_upsampling(3, x, tape))
        x = run_blocks(self.decoder_level3, self.reduce_chan_level3(torch.cat([x, third], 1)), tape)
        x = self.up3_2(self._before_upsampling(2, x, tape))
        x = run_blocks(self.decoder_level2, self.reduce_chan_level2(torch.cat([x, second], 1)), tape)
        x = self.up2_1(self._before_upsampling(1, x, tape))
        x = run_blocks(self.decoder_level1, torch.cat([x, first], 1), tape)
        return self.output(run_blocks(self.refinement, x, tape)) + image

    def _before_upsampling(self, level: int, x: Tensor, tape: StatisticsTape) -> Tensor:
        """Returns what is enlarged to the size of a level, from 3 to 1; here ``x`` as it is."""
        return x


def run_blocks(blocks: nn.Sequential, x: Tensor, tape: StatisticsTape) -> Tensor:
    """Applies blocks one after the other."""
    for block in blocks:
        x = block(x, tape)
    return x


class Restormer(TransformerUNet):
    """Predicts the residual that is added to the image, with attention between channels.

    Args:
        dim: Channels of the first level; every further level has twice as many.
        num_blocks: Number of blocks of each of the four levels, finest first.
        num_refinement_blocks: Number of blocks after the last decoder level.
        heads: Number of attention heads of each level, finest first.
        expansion: Channels of the feed-forward layers, as a multiple of the level's.
        bias_free: Whether layer normalisation has no bias, as in the published denoisers.

    Shape:
        float32 (B, 3, H, W) in [0, 1] to the same shape, not clamped. H and W are multiples of 8.

    Source: Zamir et al., "Restormer: Efficient Transformer for High-Resolution Image Restoration", CVPR
        2022. Departures: dual-pixel input is left out; a tile can be given the weights of channel attention
        of the whole image.
    """

    def __init__(
        self,
        dim: int = 48,
        num_blocks: Sequence[int] = (4, 6, 6, 8),
        num_refinement_blocks: int = 4,
        heads: Sequence[int] = (1, 2, 4, 8),
        expansion: float = 2.66,
        bias_free: bool = False,
    ) -> None:
        def make_block(channels: int, level: int) -> nn.Module:
            return TransformerBlock(channels, heads[level], expansion, bias_free)

        super().__init__(dim, num_blocks, num_refinement_blocks, make_block)
