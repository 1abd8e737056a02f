"""NAFNet at a small width: the second architecture of the ``lite`` tools."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from spandrel.architectures.NAFNet import NAFNet as SpandrelNAFNet
from torch import Tensor, nn
from torch.nn import functional as F


class GlobalAveragePool(nn.Module):
    """Mean of each channel; (B, C, H, W) to (B, C, 1, 1)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3), keepdim=True)


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of (B, C, H, W), by torch's own kernel."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class NAFNet(nn.Module):
    """Predicts what to add to the image, with gates and channel attention.

    Args:
        width: Channels of the first level; they double from level to level.
        encoder: Blocks per level on the way down, finest first.
        middle: Blocks at the coarsest level.
        decoder: Blocks per level on the way up, coarsest first.
        unshuffle: The image is folded by this factor before the first level, which makes
            the network as many times squared cheaper.

    Shape:
        float32 (B, 3, H, W) in [0, 1] to the same shape, not clamped. H and W are multiples
        of :attr:`multiple`.

    Source: Chen et al., "Simple Baselines for Image Restoration", ECCV 2022, in spandrel's
        definition. Departures: folding, normalisation by torch's kernel, and channel
        attention that can be told the means of a whole image of which it sees a part.
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
        # One 3x3 convolution a block, one before and one after them all; then the grid.
        counts = [*encoder, middle, *decoder]
        steps = [2**level for level in (*range(len(encoder) + 1), *reversed(range(len(decoder))))]
        reach = 2 + sum(count * step for count, step in zip(counts, steps, strict=True))
        self.halo = unshuffle * reach + self.multiple - 1
        blocks: list[Any] = [module for module in self.body.modules() if hasattr(module, "sca")]
        for block in blocks:
            block.norm1 = ChannelNorm(block.norm1.weight.numel(), eps=1e-6)
            block.norm2 = ChannelNorm(block.norm2.weight.numel(), eps=1e-6)
            block.sca[0] = GlobalAveragePool()
        self._means: list[GlobalAveragePool] = [block.sca[0] for block in blocks]
        for parameter in self.body.ending.parameters():  # start as the identity: training only adds
            nn.init.zeros_(parameter)

    def statistics(self, image: Tensor) -> tuple[Tensor, ...]:
        """What channel attention knows of an image: the means of every block's channels."""
        noted: dict[nn.Module, Tensor] = {}

        def note(means: nn.Module, _: object, result: Tensor) -> None:
            noted[means] = result

        with ExitStack() as hooks:
            for means in self._means:
                hooks.enter_context(means.register_forward_hook(note))
            self(image)
        return tuple(noted[means] for means in self._means)

    def forward(self, image: Tensor, statistics: tuple[Tensor, ...] | None = None) -> Tensor:
        """Restores an image, or a part of one whose :meth:`statistics` are given."""
        with ExitStack() as hooks:
            for means, known in zip(self._means, statistics or (), strict=False):
                hooks.enter_context(means.register_forward_hook(lambda *_, known=known: known))
            return F.pixel_shuffle(self.body(F.pixel_unshuffle(image, self.unshuffle)), self.unshuffle)
