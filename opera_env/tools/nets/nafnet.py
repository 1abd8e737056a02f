"""NAFNet with few channels: the second architecture of the ``lite`` tools."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class GlobalAveragePool(nn.Module):
    """The mean of each channel: (B, C, H, W) to (B, C, 1, 1)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3), keepdim=True)


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of (B, C, H, W), computed by torch's own kernel."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class SimpleGate(nn.Module):
    """The product of the two halves of the channels: (B, 2 * C, H, W) to (B, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, dim=1)
        return first * second


class NAFBlock(nn.Module):
    """Two residual branches: a gated convolution with channel attention, then a gated layer by pixel.

    Args:
        channels: Number of channels of the input and of the result.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 2 * channels, 1)
        self.conv2 = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, groups=2 * channels)
        self.conv3 = nn.Conv2d(channels, channels, 1)
        self.pool = GlobalAveragePool()
        self.sca = nn.Sequential(self.pool, nn.Conv2d(channels, channels, 1))
        self.gate = SimpleGate()
        self.conv4 = nn.Conv2d(channels, 2 * channels, 1)
        self.conv5 = nn.Conv2d(channels, channels, 1)
        self.norm1 = ChannelNorm(channels, eps=1e-6)
        self.norm2 = ChannelNorm(channels, eps=1e-6)
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        branch = self.gate(self.conv2(self.conv1(self.norm1(x))))
        x = x + self.conv3(branch * self.sca(branch)) * self.beta
        return x + self.conv5(self.gate(self.conv4(self.norm2(x)))) * self.gamma


class NAFNetBody(nn.Module):
    """NAFNet as it is published; the names of its parameters are those of published checkpoints.

    It is defined here because the import of spandrel, which has it as well, takes as long as that of torch.

    Args:
        image_channels: Channels of the image and of the result.
        width: Channels of the first level.
        encoder: Number of blocks of each encoder level, finest first.
        middle: Number of blocks at the coarsest level.
        decoder: Number of blocks of each decoder level, coarsest first.
    """

    def __init__(
        self, image_channels: int, width: int, encoder: Sequence[int], middle: int, decoder: Sequence[int]
    ) -> None:
        super().__init__()
        self.intro = nn.Conv2d(image_channels, width, 3, padding=1)
        self.ending = nn.Conv2d(width, image_channels, 3, padding=1)
        # In this order, because the states of optimizers in checkpoints go by the order of the parameters.
        self.encoders, self.decoders = nn.ModuleList(), nn.ModuleList()
        self.middle_blks = nn.Sequential()
        self.ups, self.downs = nn.ModuleList(), nn.ModuleList()
        channels = width
        for count in encoder:
            self.encoders.append(nn.Sequential(*(NAFBlock(channels) for _ in range(count))))
            self.downs.append(nn.Conv2d(channels, 2 * channels, 2, 2))
            channels *= 2
        self.middle_blks.extend(NAFBlock(channels) for _ in range(middle))
        for count in decoder:
            up = nn.Sequential(nn.Conv2d(channels, 2 * channels, 1, bias=False), nn.PixelShuffle(2))
            self.ups.append(up)
            channels //= 2
            self.decoders.append(nn.Sequential(*(NAFBlock(channels) for _ in range(count))))

    def forward(self, image: Tensor) -> Tensor:
        x = self.intro(image)
        skips: list[Tensor] = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            skips.append(encoder(x))
            x = down(skips[-1])
        x = self.middle_blks(x)
        for decoder, up, skip in zip(self.decoders, self.ups, reversed(skips), strict=True):
            x = decoder(up(x) + skip)
        return self.ending(x) + image


class NAFNet(nn.Module):
    """Predicts the residual that is added to the image, with gates and channel attention.

    Args:
        width: Channels of the first level; every further level has twice as many.
        encoder: Number of blocks of each encoder level, finest first.
        middle: Number of blocks at the coarsest level.
        decoder: Number of blocks of each decoder level, coarsest first.
        unshuffle: Factor of the pixel unshuffle before the first level. The network then works on an image
            that has ``unshuffle`` squared times fewer pixels.

    Attributes:
        multiple: Height and width of the input must be multiples of this number of pixels.
        halo: Receptive-field radius in pixels, channel attention apart.

    Shape:
        float32 (B, 3, H, W) in [0, 1] to the same shape, not clamped. H and W are multiples of
        ``multiple``.

    Source: Chen et al., "Simple Baselines for Image Restoration", ECCV 2022.
        Departures: pixel unshuffle, normalisation by torch's kernel, and channel attention that accepts the
        channel means of a whole image when the input is a tile of it.
    """

    global_context, statistics_source = True, "windows"

    def __init__(
        self,
        width: int = 24,
        encoder: Sequence[int] = (1, 1),
        middle: int = 2,
        decoder: Sequence[int] = (1, 1),
        unshuffle: int = 2,
    ) -> None:
        super().__init__()
        self.unshuffle = unshuffle
        self.body = NAFNetBody(3 * unshuffle**2, width, encoder, middle, decoder)
        self.multiple = unshuffle * 2 ** len(encoder)
        # Each block has one 3x3 convolution; one more comes first and one last. The last term accounts for
        # the position of a pixel in the grid of the coarsest level.
        counts = [*encoder, middle, *decoder]
        steps = [2**level for level in (*range(len(encoder) + 1), *reversed(range(len(decoder))))]
        receptive_radius = 2 + sum(count * step for count, step in zip(counts, steps, strict=True))
        self.halo = unshuffle * receptive_radius + self.multiple - 1
        self._pools = [module.pool for module in self.body.modules() if isinstance(module, NAFBlock)]
        for parameter in self.body.ending.parameters():  # the untrained network is the identity
            nn.init.zeros_(parameter)

    def statistics(self, image: Tensor) -> tuple[Tensor, ...]:
        """Returns the inputs of channel attention for a whole image: the channel means of every block."""
        captured: dict[nn.Module, Tensor] = {}

        def capture(pool: nn.Module, _: object, means: Tensor) -> None:
            captured[pool] = means

        with ExitStack() as hooks:
            for pool in self._pools:
                hooks.enter_context(pool.register_forward_hook(capture))
            self(image)
        return tuple(captured[pool] for pool in self._pools)

    def forward(self, image: Tensor, statistics: tuple[Tensor, ...] | None = None) -> Tensor:
        """Restores an image, or a tile of an image whose :meth:`statistics` are given."""
        with ExitStack() as hooks:
            for pool, means in zip(self._pools, statistics or (), strict=False):
                hooks.enter_context(pool.register_forward_hook(lambda *_, means=means: means))
            return F.pixel_shuffle(self.body(F.pixel_unshuffle(image, self.unshuffle)), self.unshuffle)
