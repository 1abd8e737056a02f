"""A small convolutional U-Net: the first architecture of the ``lite`` tools."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a ReLU, added to the input: (B, C, H, W) to the same shape."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.relu(self.first(x)))


def residual_blocks(width: int, count: int) -> nn.Module:
    """Returns one residual block, or a sequence of ``count`` blocks."""
    blocks = [ResidualBlock(width) for _ in range(count)]
    return blocks[0] if count == 1 else nn.Sequential(*blocks)


class GlobalContext(nn.Module):
    """Scales and shifts channels depending on global statistics: (B, C, H, W) to the same shape.

    Haze covers the whole image with one colour, which a local window cannot distinguish from a wall of that
    colour.

    Scale and shift are bounded, and the statistics contain no maximum, so that images unlike the training
    patches, or much larger ones, do not produce larger activations from level to level.

    Args:
        width: Number of channels C.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(2 * width, width)
        self.out = nn.Linear(width, 2 * width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def statistics(self, x: Tensor) -> Tensor:
        """Returns the mean and the root mean square of each channel, (B, 2 C)."""
        return torch.cat([x.mean((2, 3)), (x.square().mean((2, 3)) + 1e-6).sqrt()], dim=1)

    def forward(self, x: Tensor, pooled: Tensor | None = None) -> Tensor:
        """Adjusts the channels; ``pooled`` is (B, 2 C), by default the statistics of ``x``."""
        pooled = self.statistics(x) if pooled is None else pooled
        scale, shift = self.out(self.hidden(pooled).tanh())[..., None, None].chunk(2, dim=1)
        return x * (1 + scale.tanh()) + shift


class UNet(nn.Module):
    """Predicts the residual that is added to the image, at several resolutions.

    Args:
        widths: Channels of each level, finest first.
        unshuffle: Factor of the pixel unshuffle before the first level. The network then works on an image
            that has ``unshuffle`` squared times fewer pixels.
        scale: Factor by which the image is enlarged, for example 4; 1 keeps its size.
        global_context: Whether every decoder level uses statistics of the whole image.
        blocks: Number of residual blocks in the encoder and in the decoder of each level.

    Attributes:
        multiple: Height and width of the input must be multiples of this number of pixels.

    Shape:
        float32 (B, 3, H, W) in [0, 1] to (B, 3, scale * H, scale * W), not clamped. H and W are multiples
        of ``multiple``.
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
        # The untrained network is the identity, or bicubic enlargement.
        nn.init.zeros_(self.tail.weight)
        torch.nn.init.zeros_(self.tail.bias)  # pyright: ignore[reportArgumentType]

    @property
    def halo(self) -> int:
        """Receptive-field radius in pixels of the input, global context apart."""
        levels = [2**level for level in range(len(self.encoder))]
        convolutions = 2 * self.blocks * (sum(levels) + sum(levels[:-1]))
        return self.unshuffle * (2 + convolutions) + self.multiple - 1  # 2: head and tail

    def statistics(self, image: Tensor) -> tuple[Tensor, ...]:
        """Returns the statistics of a whole image at each level with global context, coarsest first."""
        collected: list[Tensor] = []
        self._restore(image, None, collected)
        return tuple(collected)

    def forward(self, image: Tensor, statistics: tuple[Tensor, ...] | None = None) -> Tensor:
        """Restores an image, or a tile of an image whose :meth:`statistics` are given."""
        return self._restore(image, statistics, [])

    def _restore(
        self, image: Tensor, statistics: tuple[Tensor, ...] | None, collected: list[Tensor]
    ) -> Tensor:
        """Restores an image; statistics that are not given are computed and appended to ``collected``."""
        remaining_statistics = iter(statistics or ())

        def apply_context(level: int, x: Tensor) -> Tensor:
            context = self.context[level]
            if not isinstance(context, GlobalContext):
                return x
            pooled = next(remaining_statistics, None)
            if pooled is None:
                pooled = context.statistics(x)
                collected.append(pooled)
            return context(x, pooled)

        x = self.head(F.pixel_unshuffle(image, self.unshuffle))
        skips: list[Tensor] = []
        for block, down in zip(self.encoder, self.down, strict=False):
            x = block(x)
            skips.append(x)
            x = down(x)
        x = apply_context(-1, self.encoder[-1](x))
        for level in reversed(range(len(self.up))):
            x = F.pixel_shuffle(self.up[level](x), 2) + skips[level]
            x = self.decoder[level](apply_context(level, x))
        residual = F.pixel_shuffle(self.tail(x), self.unshuffle * self.scale)
        if self.scale == 1:
            return image + residual
        enlarged = F.interpolate(
            image, scale_factor=self.scale, mode="bicubic", antialias=True, align_corners=False
        )
        return enlarged + residual
