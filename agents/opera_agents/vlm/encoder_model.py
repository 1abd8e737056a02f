"""A small vision-language model that sees with the image encoder of the other agents.

The language model is that of Qwen2.5-VL. Its vision transformer is replaced by an image encoder, which sees
noise, blocks and blur in spectra and single pixels, and a linear layer from its features to image tokens.
No gradients reach the encoder, so that it stays as it was trained.

The architecture is one of this package: :func:`register_encoder_model` makes it known to transformers'
loaders.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLPreTrainedModel,
)
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import (
    Qwen2_5_VLTextConfig,
    Qwen2_5_VLVisionConfig,
)

from opera_env.encoder import encode_by_size, make_encoder
from opera_env.errors import AgentError


class EncoderVisionConfig(Qwen2_5_VLVisionConfig):
    """The vision tower: the kind of its encoder, and the number of different image tokens.

    Attributes:
        encoder: A kind of :data:`opera_env.encoder.EncoderKind`.
        num_tokens: Number of tokens that the features of an image become. An image that takes more places
            than that in a prompt repeats them.
    """

    model_type = "opera_encoder"
    # Qwen's constructor builds a transformer of these sizes, which the tower replaces.
    depth: int = 0
    hidden_size: int = 1
    intermediate_size: int = 1
    num_heads: int = 1
    encoder: str = "image"
    num_tokens: int = 4


class EncoderVLConfig(Qwen2_5_VLConfig):
    """The configuration of :class:`EncoderVLForConditionalGeneration`."""

    model_type = "opera_encoder_vl"
    sub_configs_defaults = {  # noqa: RUF012 - transformers reads it from the class
        "vision_config": EncoderVisionConfig,
        "text_config": Qwen2_5_VLTextConfig,
    }


class EncoderTower(Qwen2_5_VLPreTrainedModel):
    """Encodes images and projects their features to the tokens of a language model.

    Args:
        config: The configuration.

    Source: our own. The paper's models see with the vision transformers that they come with.
    """

    config: EncoderVisionConfig  # pyright: ignore[reportIncompatibleVariableOverride]
    config_class = EncoderVisionConfig

    def __init__(self, config: EncoderVisionConfig) -> None:
        super().__init__(config)
        self.spatial_merge_size = config.spatial_merge_size
        self.encoder = make_encoder(config.encoder)
        size = config.num_tokens * config.out_hidden_size
        features = self.encoder.features_dim
        self.projector = nn.Sequential(nn.LayerNorm(features), nn.Linear(features, size))

    def forward(self, pixel_values: Tensor, grid_thw: Tensor, **_: Any) -> BaseModelOutputWithPooling:
        """Encodes images, given as patches.

        Args:
            pixel_values: Patches of all images as Qwen's image processor makes them, float (patches, 3 P P)
                in [0, 1], where P is the side of a patch.
            grid_thw: Frames, rows and columns of the patches of each image, int64 (B, 3).

        Returns:
            The image tokens of all images as ``pooler_output``, float32 (N, D): one for each square of
            merged patches, as wide as the language model.

        Raises:
            AgentError: If an image has several frames.
        """
        images = self.assemble(pixel_values, grid_thw)
        with torch.no_grad():
            features = encode_by_size(self.encoder, images, pixel_values.device)
        tokens = self.projector(features).unflatten(1, (self.config.num_tokens, -1))
        places = grid_thw.prod(1).div(self.spatial_merge_size**2, rounding_mode="floor").tolist()
        placed = [
            each[torch.arange(count, device=each.device) % len(each)]
            for each, count in zip(tokens, places, strict=True)
        ]
        output = torch.cat(placed)
        return BaseModelOutputWithPooling(
            last_hidden_state=cast(Any, output), pooler_output=cast(Any, output)
        )

    def assemble(self, pixel_values: Tensor, grid_thw: Tensor) -> list[Tensor]:
        """Puts the patches of images together again.

        Args:
            pixel_values: See :meth:`forward`.
            grid_thw: See :meth:`forward`.

        Returns:
            For each image float32 (3, H, W) in [0, 1].

        Raises:
            AgentError: If an image has several frames.
        """
        merge, side = self.spatial_merge_size, cast(int, self.config.patch_size)
        images: list[Tensor] = []
        start = 0
        for frames, rows, columns in grid_thw.tolist():
            if frames != 1:
                raise AgentError(f"expected images of one frame, found {frames} frames: pass images.")
            patches = pixel_values[start : start + rows * columns].float()
            start += rows * columns
            grid = patches.view(rows // merge, columns // merge, merge, merge, 3, side, side)
            images.append(grid.permute(4, 0, 2, 5, 1, 3, 6).reshape(3, rows * side, columns * side))
        return images


class EncoderVLForConditionalGeneration(Qwen2_5_VLForConditionalGeneration):
    """Qwen2.5-VL's language model with an :class:`EncoderTower`.

    Args:
        config: The configuration.
    """

    config_class = EncoderVLConfig
    _keep_in_fp32_modules_strict = {"visual"}  # noqa: RUF012 - spectra need float32

    def __init__(self, config: EncoderVLConfig) -> None:
        super().__init__(config)
        cast(Any, self.model).visual = EncoderTower(cast(EncoderVisionConfig, config.vision_config))
        self.post_init()

    @property
    def tower(self) -> EncoderTower:
        """The vision tower."""
        return cast(EncoderTower, self.model.visual)


def register_encoder_model() -> None:
    """Makes transformers' loaders know the architecture. Calling it again does nothing."""
    AutoConfig.register(EncoderVLConfig.model_type, EncoderVLConfig, exist_ok=True)
    AutoModelForImageTextToText.register(EncoderVLConfig, EncoderVLForConditionalGeneration, exist_ok=True)
