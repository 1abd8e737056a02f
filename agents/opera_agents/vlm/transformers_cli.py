"""The commands of transformers with the architecture of the shipped model, which they do not know.

Example:
    python -m opera_agents.vlm.transformers_cli serve agents/opera_agents/vlm/weights --port 8000
"""

from __future__ import annotations

import transformers
from transformers.cli.transformers import main
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from opera_agents.vlm.encoder_model import (
    EncoderVLConfig,
    EncoderVLForConditionalGeneration,
    register_encoder_model,
)

if __name__ == "__main__":
    register_encoder_model()
    # `serve` looks an architecture up in the library itself, and by its name among those of the library.
    name = EncoderVLForConditionalGeneration.__name__
    setattr(transformers, name, EncoderVLForConditionalGeneration)
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES[EncoderVLConfig.model_type] = name
    main()
