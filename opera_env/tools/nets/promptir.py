"""PromptIR: Restormer whose decoder is given learnt prompts, for several degradations in one network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from opera_env.tools.nets.restormer import StatisticsTape, TransformerBlock, TransformerUNet, Upsample


class Prompt(nn.Module):
    """Mixes learnt prompts by the mean of the features, and resizes the mixture to their size.

    Args:
        feature_channels: Channels of the features.
        prompt_channels: Channels of a prompt.
        size: Side of a prompt in pixels.
        count: Number of prompts.
    """

    def __init__(self, feature_channels: int, prompt_channels: int, size: int, count: int) -> None:
        super().__init__()
        self.prompt_param = nn.Parameter(torch.rand(1, count, prompt_channels, size, size))
        self.linear_layer = nn.Linear(feature_channels, count)
        self.conv3x3 = nn.Conv2d(prompt_channels, prompt_channels, 3, padding=1, bias=False)

    def forward(self, x: Tensor, tape: StatisticsTape) -> Tensor:
        """Returns the prompt (B, prompt_channels, H, W) for features (B, feature_channels, H, W)."""
        weights = tape.take(lambda: self.linear_layer(x.mean((2, 3))).softmax(dim=1))
        prompt = (weights[:, :, None, None, None] * self.prompt_param).sum(1)
        return self.conv3x3(F.interpolate(prompt, x.shape[-2:], mode="bilinear", align_corners=False))


class UnusedWeight(nn.Module):
    """A weight of the published network that its result does not depend on; kept, and never trained."""

    weight: Tensor

    def __init__(self, outputs: int, inputs: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(outputs, inputs, 1, 1))


class PromptIR(TransformerUNet):
    """Predicts the residual that is added to the image; one network for several degradations.

    Tiles of a large image each get the whole prompt, so that their result is an approximation.

    Args:
        dim: Channels of the first level; every further level has twice as many.
        num_blocks: Number of blocks of each of the four levels, finest first.
        num_refinement_blocks: Number of blocks after the last decoder level.
        heads: Number of attention heads of each level, finest first.
        expansion: Channels of the feed-forward layers, as a multiple of the level's.
        prompts: Number of prompts of a level.
        prompt_channels: Channels of the prompts of each of the three decoder levels, finest first.
        prompt_sizes: Sides of these prompts in pixels, finest first.
        reduced_channels: Outputs of a layer of the published network that is not used.

    Shape:
        float32 (B, 3, H, W) in [0, 1] to the same shape, not clamped. H and W are multiples of 8.

    Source: Potlapalli et al., "PromptIR: Prompting for All-in-One Blind Image Restoration", NeurIPS 2023.
        Departure: a tile can be given the weights of channel attention and of prompts of the whole image.
    """

    def __init__(
        self,
        dim: int = 48,
        num_blocks: Sequence[int] = (4, 6, 6, 8),
        num_refinement_blocks: int = 4,
        heads: Sequence[int] = (1, 2, 4, 8),
        expansion: float = 2.66,
        prompts: int = 5,
        prompt_channels: Sequence[int] = (64, 128, 320),
        prompt_sizes: Sequence[int] = (64, 32, 16),
        reduced_channels: int = 256,
    ) -> None:
        def make_block(channels: int, level: int) -> nn.Module:
            return TransformerBlock(channels, heads[level], expansion, bias_free=False)

        super().__init__(dim, num_blocks, num_refinement_blocks, make_block)
        first, second, third = prompt_channels
        # Level 3 receives fewer channels from below than in Restormer.
        self.up4_3 = Upsample(4 * dim)
        self.reduce_chan_level3 = nn.Conv2d(6 * dim, 4 * dim, 1, bias=False)
        self.prompt1 = Prompt(2 * dim, first, prompt_sizes[0], prompts)
        self.prompt2 = Prompt(4 * dim, second, prompt_sizes[1], prompts)
        self.prompt3 = Prompt(8 * dim, third, prompt_sizes[2], prompts)
        self.noise_level1 = make_block(2 * dim + first, 2)
        self.noise_level2 = make_block(4 * dim + second, 2)
        self.noise_level3 = make_block(8 * dim + third, 2)
        self.reduce_noise_level1 = nn.Conv2d(2 * dim + first, 2 * dim, 1, bias=False)
        self.reduce_noise_level2 = nn.Conv2d(4 * dim + second, 4 * dim, 1, bias=False)
        self.reduce_noise_level3 = nn.Conv2d(8 * dim + third, 4 * dim, 1, bias=False)
        self.chnl_reduce1 = UnusedWeight(first, first)
        self.chnl_reduce2 = UnusedWeight(second, second)
        self.chnl_reduce3 = UnusedWeight(reduced_channels, third)
        self.reduce_noise_channel_1 = UnusedWeight(dim, dim + first)
        self.reduce_noise_channel_2 = UnusedWeight(2 * dim, 2 * dim + second)
        self.reduce_noise_channel_3 = UnusedWeight(4 * dim, 4 * dim + reduced_channels)

    @property
    def halo(self) -> int:
        """Receptive-field radius in pixels, channel attention and prompts apart."""
        return super().halo + (2 + 4 + 8) * TransformerBlock.halo

    def _before_upsampling(self, level: int, x: Tensor, tape: StatisticsTape) -> Tensor:
        prompt = self.get_submodule(f"prompt{level}")
        block = self.get_submodule(f"noise_level{level}")
        reduce = self.get_submodule(f"reduce_noise_level{level}")
        return reduce(block(torch.cat([x, prompt(x, tape)], 1), tape))
