"""The commands of transformers with the architecture of the shipped model, which they do not know.

Example:
    python -m opera_agents.vlm.transformers_cli serve agents/opera_agents/vlm/weights --port 8000

Streams of ``serve`` end with ``[DONE]`` here, as in OpenAI's API: clients such as that of verifiers take a
stream without it for one that was cut off.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

import transformers
from transformers.cli.transformers import main
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from opera_agents.vlm.encoder_model import (
    EncoderVLConfig,
    EncoderVLForConditionalGeneration,
    register_encoder_model,
)


def end_streams() -> None:
    """Lets the chat completions of ``serve`` end their streams with ``[DONE]``."""
    from transformers.cli.serving.chat_completion import ChatCompletionHandler

    stream = ChatCompletionHandler._streaming

    def stream_with_end(*arguments: Any, **named: Any) -> Any:
        response = stream(*arguments, **named)
        response.body_iterator = _with_end(response.body_iterator)
        return response

    ChatCompletionHandler._streaming = stream_with_end


async def _with_end(chunks: AsyncIterable[Any]) -> AsyncIterator[Any]:
    last: Any = ""
    async for last in chunks:
        yield last
    if '"finish_reason"' in str(last):  # else it was cut off by an error
        yield "data: [DONE]\n\n"


if __name__ == "__main__":
    register_encoder_model()
    # `serve` looks an architecture up in the library itself, and by its name among those of the library.
    name = EncoderVLForConditionalGeneration.__name__
    setattr(transformers, name, EncoderVLForConditionalGeneration)
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES[EncoderVLConfig.model_type] = name
    end_streams()
    main()
