"""A small convolutional U-Net: the architecture of the ``lite`` tools."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a ReLU, added to the input; (B, C, H, W) in and out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.relu(self.first(x)))


def residual_blocks(width: int, count: int) -> nn.Module:
    """Returns one block, or several in a row."""
    blocks = [ResidualBlock(width) for _ in range(count)]
    return blocks[0] if count == 1 else nn.Sequential(*blocks)


class GlobalContext(nn.Module):
    """Scales and shifts channels by the image's global statistics; (B, C, H, W) in and out.

    Haze veils the whole image with one colour, which no local window can tell from a wall.

    What is scaled and shifted by is bounded, and no maximum is among the statistics: an image unlike
    the training patches, or many times larger, must not set off level after level.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(2 * width, width)
        self.out = nn.Linear(width, 2 * width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def statistics(self, x: Tensor) -> Tensor:
        """Mean and root mean square of each channel, (B, 2 C)."""
        return torch.cat([x.mean((2, 3)), (x.square().mean((2, 3)) + 1e-6).sqrt()], dim=1)

    def forward(self, x: Tensor, pooled: Tensor | None = None) -> Tensor:
        """Adjusts channels by the image's statistics, or by those given."""
        pooled = self.statistics(x) if pooled is None else pooled
        scale, shift = self.out(self.hidden(pooled).tanh())[..., None, None].chunk(2, dim=1)
        return x * (1 + scale.tanh()) + shift


class UNet(nn.Module):
    """Predicts what to add to the image, at several resolutions.

    Args:
        widths: Channels per level, finest first.
        unshuffle: The image is folded by this factor before the first level, which makes
            the network as many times squared cheaper.
        scale: 1 to restore at constant size, 4 to enlarge the image four times.
        global_context: Let every decoder level see statistics of the whole image.
        blocks: Residual blocks in a row, in the encoder and in the decoder of every level.

    Shape:
        float32 (B, 3, H, W) in [0, 1] to (B, 3, scale * H, scale * W), not clamped. H and W
        are multiples of :attr:`multiple`.
    """

    statistics_source = "downscaled"

    def __init__(
        self,
        widths: Sequence[int] = (24, 48, 64),
        unshuffle: int = 2,
        scale: int = 1,
        global_context: bool = False,
        blocks: int = 1,
    ) -> None:
        super().__init__()
        self.unshuffle, self.scale, self.global_context = unshuffle, scale, global_context
        self.blocks = blocks
        self.multiple = unshuffle * 2 ** (len(widths) - 1)
        self.head = nn.Conv2d(3 * unshuffle**2, widths[0], 3, padding=1)
        self.encoder = nn.ModuleList(residual_blocks(width, blocks) for width in widths)
        self.down = nn.ModuleList(
            nn.Conv2d(a, b, 2, stride=2) for a, b in zip(widths, widths[1:], strict=False)
        )
        self.up = nn.ModuleList(nn.Conv2d(b, 4 * a, 1) for a, b in zip(widths, widths[1:], strict=False))
        self.decoder = nn.ModuleList(residual_blocks(width, blocks) for width in widths[:-1])
        self.context = nn.ModuleList(
            GlobalContext(width) if global_context else nn.Identity() for width in widths
        )
        self.tail = nn.Conv2d(widths[0], 3 * (unshuffle * scale) ** 2, 3, padding=1)
        # Start as the identity (or as plain enlargement), so that training only adds.
        nn.init.zeros_(self.tail.weight)
        torch.nn.init.zeros_(self.tail.bias)  # pyright: ignore[reportArgumentType]

    @property
    def halo(self) -> int:
        """How many pixels around a pixel can change its result, global context apart."""
        levels = [2**level for level in range(len(self.encoder))]
        convolutions = 2 * self.blocks * (sum(levels) + sum(levels[:-1]))
        return self.unshuffle * (2 + convolutions) + self.multiple - 1  # with head, tail and the grid

    def statistics(self, image: Tensor) -> tuple[Tensor, ...]:
        """What the levels with global context know of an image, coarsest first."""
        pooled: list[Tensor] = []
        self._restore(image, None, pooled)
        return tuple(pooled)

    def forward(self, image: Tensor, statistics: tuple[Tensor, ...] | None = None) -> Tensor:
        """Restores an image, or a part of one whose :meth:`statistics` are given."""
        return self._restore(image, statistics, [])

    def _restore(self, image: Tensor, given: tuple[Tensor, ...] | None, pooled: list[Tensor]) -> Tensor:
        """Restores; takes statistics from what is given, else from the image and notes them."""
        given_in_turn = iter(given or ())

        def in_context(level: int, x: Tensor) -> Tensor:
            context = self.context[level]
            if not isinstance(context, GlobalContext):
                return x
            known = next(given_in_turn, None)
            if known is None:
                known = context.statistics(x)
                pooled.append(known)
            return context(x, known)

        x = self.head(F.pixel_unshuffle(image, self.unshuffle))
        skips: list[Tensor] = []
        for block, down in zip(self.encoder, self.down, strict=False):
            x = block(x)
            skips.append(x)
            x = down(x)
        x = in_context(-1, self.encoder[-1](x))
        for level in reversed(range(len(self.up))):
            x = F.pixel_shuffle(self.up[level](x), 2) + skips[level]
            x = self.decoder[level](in_context(level, x))
        residual = F.pixel_shuffle(self.tail(x), self.unshuffle * self.scale)
        if self.scale == 1:
            return image + residual
        enlarged = F.interpolate(
            image, scale_factor=self.scale, mode="bicubic", antialias=True, align_corners=False
        )
        return enlarged + residual
