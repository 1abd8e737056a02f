"""A vision-language model of 1.8 M parameters, built offline: of the 7 B one's class, for a laptop."""

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

from opera_env.answer import ANSWER_TAGS
from opera_env.degradations import DEGRADATIONS
from opera_env.tools import Toolbox

PATCH_SIZE, MERGE_SIZE = 7, 3
"""Side of a patch in pixels, and how many patches side by side become one token. Small ones see noise."""

SIDE = 126
"""Side of the images it sees: the multiple of PATCH * MERGE next to 128, so that little is resampled."""

_END, _BEGIN, _STOP = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
_VISION = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")

_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}"
    "{% for part in message.content %}{% if part.type == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part.text }}{% endif %}{% endfor %}{% endif %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Qwen's way of writing a conversation."""


def tiny_processor(toolbox: Toolbox, texts: Iterable[str]) -> Qwen2_5_VLProcessor:
    """Builds a tokenizer of the words that answers consist of, and an image processor.

    Args:
        toolbox: Each tool's name is one token, as each degradation and each tag is.
        texts: What else it has to write, prompts and answers.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = [_END, _BEGIN, _STOP, *_VISION]
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    # As ordinary tokens: special ones would be left out when an answer is turned into text.
    tokenizer.add_tokens([mark for tag in ANSWER_TAGS for mark in (f"<{tag}>", f"</{tag}>")])
    tokenizer.add_tokens([*DEGRADATIONS, *toolbox.names])
    words = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=_END,
        eos_token=_STOP,
        pad_token=_END,
        padding_side="left",
    )
    sizes: dict[str, Any] = {"patch_size": PATCH_SIZE, "merge_size": MERGE_SIZE, "temporal_patch_size": 2}
    pixels = {"shortest_edge": SIDE * SIDE, "longest_edge": SIDE * SIDE}
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=pixels, **sizes),
        tokenizer=words,
        video_processor=Qwen2VLVideoProcessor(**sizes),
        chat_template=_TEMPLATE,
    )


def tiny_model(
    processor: Qwen2_5_VLProcessor, width: int = 128, layers: int = 3, seed: int = 0
) -> Qwen2_5_VLForConditionalGeneration:
    """Builds an untrained model for a processor.

    Args:
        processor: From :func:`tiny_processor`; any whose tokenizer has Qwen's special tokens will do.
        width: Of the language model.
        layers: Of the language model, and of the vision model.
        seed: Of the weights.
    """
    words = processor.tokenizer
    ids = {name: words.convert_tokens_to_ids(name) for name in (_END, _STOP, *_VISION)}
    # The default of 0.02 does not learn at this width: layers would hardly change what passes through.
    scale = 0.08
    options: dict[str, Any] = {"initializer_range": scale, "tie_word_embeddings": True}
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(words),
            "hidden_size": width,
            "intermediate_size": 3 * width,
            "num_hidden_layers": layers,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 4096,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10_000.0,
                "mrope_section": _mrope_section(width // 4 // 2),
            },
            "initializer_range": scale,
            "bos_token_id": ids[_END],
            "eos_token_id": ids[_STOP],
            "pad_token_id": ids[_END],
            "tie_word_embeddings": True,
        },
        vision_config={
            "depth": layers,
            "hidden_size": 96,
            "intermediate_size": 192,
            "num_heads": 4,
            "patch_size": processor.image_processor.patch_size,
            "spatial_merge_size": processor.image_processor.merge_size,
            "temporal_patch_size": processor.image_processor.temporal_patch_size,
            "out_hidden_size": width,
            "window_size": SIDE,
            "fullatt_block_indexes": list(range(layers)),
            "initializer_range": scale,
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        **options,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Qwen2_5_VLForConditionalGeneration(config)


def _mrope_section(half: int) -> Sequence[int]:
    """Shares of a head's rotations for time, height and width; they add up to half of its size."""
    side = half * 3 // 8
    return [half - 2 * side, side, side]
