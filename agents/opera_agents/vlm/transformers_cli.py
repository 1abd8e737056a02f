"""The commands of transformers with the architecture of the shipped model, which they do not know.

Example:
    python -m opera_agents.vlm.transformers_cli serve agents/opera_agents/vlm/weights --port 8000
"""

from __future__ import annotations

from transformers.cli.transformers import main

from opera_agents.vlm.encoder_model import register_encoder_model

if __name__ == "__main__":
    register_encoder_model()
    main()
