"""Vision-language models of under 2 M parameters, built offline.

One has the architecture of the 7 B model. The other has its language model, and sees with the image encoder
of the other agents.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

from opera_agents.vlm.encoder_model import (
    EncoderVisionConfig,
    EncoderVLConfig,
    EncoderVLForConditionalGeneration,
)
from opera_env.answer import ANSWER_TAGS
from opera_env.degradations import DEGRADATIONS
from opera_env.encoder import ImageEncoder
from opera_env.tools import Toolbox

PATCH_SIZE, MERGE_SIZE = 7, 3
"""Side of a patch in pixels, and of the square of patches that is one token; small patches show noise."""

IMAGE_SIZE = 126
"""Side of the input in pixels: the multiple of PATCH_SIZE * MERGE_SIZE next to 128."""

ENCODER_PATCH_SIZE = ENCODER_MERGE_SIZE = 8
"""The same for models with an image encoder, which sees 128 pixels; four tokens for each image."""

_ENCODER_IMAGE_SIZE = 128

_END_OF_TEXT, _IM_START, _IM_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
_VISION = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")

_CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}"
    "{% for part in message.content %}{% if part.type == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part.text }}{% endif %}{% endfor %}{% endif %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Qwen's chat template."""

_TOOL_CALL, _TOOL_CALL_END = "<tool_call>", "</tool_call>"

_TOOL_CHAT_TEMPLATE = _CHAT_TEMPLATE.replace(
    "{% endfor %}{% endif %}<|im_end|>",
    "{% endfor %}{% endif %}{% for call in message.tool_calls or [] %}"
    "<tool_call>{{ call.function | tojson }}</tool_call>{% endfor %}<|im_end|>",
)
"""The same with calls of functions. The functions are not listed: the system prompt says what they are."""

_CALL_TOKENS = (
    _TOOL_CALL,
    _TOOL_CALL_END,
    *('{"name": "apply_tool", "arguments": {"name": "', '"}}'),
    *('{"name": "finish", "arguments": {"degradations": [', '", "', "]}}"),
    '{"name": "undo", "arguments": {}}',
    *(" more may run.", "The restoration has ended.", "Done."),
)
"""Parts of calls and of their results that are one token each: what a turn decides is then most of it."""

_RESPONSE_TEMPLATE: dict[str, Any] = {
    "defaults": {"role": "assistant"},
    "start_anchor": "<|im_start|>assistant\n",
    "fields": {
        "tool_calls": {
            "open": _TOOL_CALL,
            "close_pattern": r"</tool_call>\s*",
            "repeats": True,
            "content": "json",
            "transform": {"type": "function", "function": "{content}"},
        },
        "content": {"close_pattern": r"<\|im_end\|>\s*", "content": "text"},
    },
}
"""How transformers reads calls in the answers of a model with this chat template."""


def tiny_processor(
    toolbox: Toolbox,
    texts: Iterable[str],
    labels: Sequence[str] = DEGRADATIONS,
    calls_functions: bool = False,
    for_encoder: bool = False,
) -> Qwen2_5_VLProcessor:
    """Builds a tokenizer for answers, and an image processor.

    Args:
        toolbox: The tools. Each tool's name is one token, and so is each degradation and each tag.
        texts: Prompts and answers on which the rest of the vocabulary is trained.
        labels: All degradations that answers can name; the built-in ones by default.
        calls_functions: Whether the model calls functions, as trainers with tools need it.
        for_encoder: Whether the model sees with an image encoder; images are then neither normalised nor,
            at 128 x 128 pixels, resampled.
    """
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    special_tokens = [_END_OF_TEXT, _IM_START, _IM_END, *_VISION]
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=special_tokens,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    # These are ordinary tokens, because special tokens are skipped when an answer is decoded.
    bpe.add_tokens([token for tag in ANSWER_TAGS for token in (f"<{tag}>", f"</{tag}>")])
    bpe.add_tokens([*labels, *toolbox.names])
    if calls_functions:
        bpe.add_tokens([*_CALL_TOKENS])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=_END_OF_TEXT,
        eos_token=_IM_END,
        pad_token=_END_OF_TEXT,
        padding_side="left",
    )
    if calls_functions:
        tokenizer.response_template = _RESPONSE_TEMPLATE
    sizes: dict[str, Any] = {"patch_size": PATCH_SIZE, "merge_size": MERGE_SIZE, "temporal_patch_size": 2}
    area = IMAGE_SIZE**2
    if for_encoder:
        sizes = {
            "patch_size": ENCODER_PATCH_SIZE,
            "merge_size": ENCODER_MERGE_SIZE,
            "temporal_patch_size": 1,
        }
        area = _ENCODER_IMAGE_SIZE**2
    pixels = {"shortest_edge": area, "longest_edge": area}
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=pixels, do_normalize=not for_encoder, **sizes),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(**sizes),
        chat_template=_TOOL_CHAT_TEMPLATE if calls_functions else _CHAT_TEMPLATE,
    )


def tiny_model(
    processor: Qwen2_5_VLProcessor, hidden_size: int = 128, num_layers: int = 3, seed: int = 0
) -> Qwen2_5_VLForConditionalGeneration:
    """Builds an untrained model for a processor.

    Args:
        processor: A processor of :func:`tiny_processor`, or one whose tokenizer has Qwen's special tokens.
        hidden_size: Width of the language model.
        num_layers: Number of layers of the language model and of the vision model.
        seed: Seed of the initial weights.
    """
    vision = {
        **_vision_sizes(processor, hidden_size),
        "depth": num_layers,
        "hidden_size": 96,
        "intermediate_size": 192,
        "num_heads": 4,
        "window_size": IMAGE_SIZE,
        "fullatt_block_indexes": list(range(num_layers)),
        "initializer_range": _INITIALIZER_RANGE,
    }
    options = _model_options(processor, hidden_size, num_layers)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(vision_config=vision, **options))


def tiny_encoder_model(
    processor: Qwen2_5_VLProcessor,
    encoder: ImageEncoder,
    hidden_size: int = 128,
    num_layers: int = 3,
    seed: int = 0,
) -> EncoderVLForConditionalGeneration:
    """Builds a model that sees with a trained image encoder; the language model is untrained.

    Args:
        processor: A processor of :func:`tiny_processor` with ``for_encoder``.
        encoder: The encoder, whose weights are copied.
        hidden_size: Width of the language model.
        num_layers: Number of layers of the language model.
        seed: Seed of the initial weights.
    """
    vision = EncoderVisionConfig(**_vision_sizes(processor, hidden_size))
    config = EncoderVLConfig(vision_config=vision, **_model_options(processor, hidden_size, num_layers))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = EncoderVLForConditionalGeneration(config)
    model.tower.encoder.load_state_dict(encoder.state_dict())
    return model


_INITIALIZER_RANGE = 0.08
"""With the default of 0.02 a model of this width does not learn: its layers hardly change their input."""


def _vision_sizes(processor: Qwen2_5_VLProcessor, hidden_size: int) -> dict[str, Any]:
    """Returns the settings of a vision model that follow from the other parts."""
    return {
        "patch_size": processor.image_processor.patch_size,
        "spatial_merge_size": processor.image_processor.merge_size,
        "temporal_patch_size": processor.image_processor.temporal_patch_size,
        "out_hidden_size": hidden_size,
    }


def _model_options(processor: Qwen2_5_VLProcessor, hidden_size: int, num_layers: int) -> dict[str, Any]:
    """Returns the configuration of a model but for its vision model."""
    tokenizer = processor.tokenizer
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in (_END_OF_TEXT, _IM_END, *_VISION)}
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": hidden_size,
        "intermediate_size": 3 * hidden_size,
        "num_hidden_layers": num_layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10_000.0,
            "mrope_section": _mrope_section(hidden_size // 4 // 2),
        },
        "initializer_range": _INITIALIZER_RANGE,
        "bos_token_id": ids[_END_OF_TEXT],
        "eos_token_id": ids[_IM_END],
        "pad_token_id": ids[_END_OF_TEXT],
        "tie_word_embeddings": True,
    }
    return {
        "text_config": text,
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
        "initializer_range": _INITIALIZER_RANGE,
        "tie_word_embeddings": True,
    }


def _mrope_section(half: int) -> Sequence[int]:
    """Splits half of a head's size into rotations for time, height and width."""
    side = half * 3 // 8
    return [half - 2 * side, side, side]
