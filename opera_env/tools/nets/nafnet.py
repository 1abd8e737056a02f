"""NAFNet with few channels: the second architecture of the ``lite`` tools."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from spandrel.architectures.NAFNet import NAFNet as SpandrelNAFNet
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

    Source: Chen et al., "Simple Baselines for Image Restoration", ECCV 2022, in spandrel's definition.
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
        self.body = SpandrelNAFNet(
            img_channel=3 * unshuffle**2,
            width=width,
            middle_blk_num=middle,
            enc_blk_nums=list(encoder),
            dec_blk_nums=list(decoder),
        )
        self.multiple = unshuffle * self.body.padder_size
        # Each block has one 3x3 convolution; one more comes first and one last. The last term accounts for
        # the position of a pixel in the grid of the coarsest level.
        counts = [*encoder, middle, *decoder]
        steps = [2**level for level in (*range(len(encoder) + 1), *reversed(range(len(decoder))))]
        receptive_radius = 2 + sum(count * step for count, step in zip(counts, steps, strict=True))
        self.halo = unshuffle * receptive_radius + self.multiple - 1
        blocks: list[Any] = [module for module in self.body.modules() if hasattr(module, "sca")]
        for block in blocks:
            block.norm1 = ChannelNorm(block.norm1.weight.numel(), eps=1e-6)
            block.norm2 = ChannelNorm(block.norm2.weight.numel(), eps=1e-6)
            block.sca[0] = GlobalAveragePool()
        self._pools: list[GlobalAveragePool] = [block.sca[0] for block in blocks]
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
