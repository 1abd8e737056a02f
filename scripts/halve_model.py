"""Writes a trained vision-language model as float16, which halves the size of its files.

Example:
    python scripts/halve_model.py runs/vlm/model agents/opera_agents/vlm/weights
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

from opera_agents.vlm.pretrained import load_vision_language_model
from opera_agents.vlm.saved import load_card, write_card
from opera_env.command_line import parse_settings
from opera_env.errors import AgentError


@dataclass(frozen=True)
class HalveConfig:
    """Writes a trained vision-language model as float16."""

    model: tyro.conf.Positional[Path]
    """Folder of the model and its processor."""
    out: tyro.conf.Positional[Path]
    """Folder to write."""


def halve(config: HalveConfig) -> None:
    """Copies the files of the model, and replaces its weights and their digests by those of rounded ones.

    Raises:
        AgentError: If the model has no card.
    """
    card = load_card(config.model)
    if card is None:
        raise AgentError(f"{config.model}: expected a trained model with its card, found none.")
    model = load_vision_language_model(config.model, dtype=torch.float16)
    shutil.copytree(config.model, config.out, dirs_exist_ok=True)
    model.half().save_pretrained(config.out, save_original_format=False)  # parts may have stayed float32
    (config.out / "model.safetensors").chmod(0o644)  # the library makes it unreadable for other users
    write_card(card, config.out)


if __name__ == "__main__":
    halve(parse_settings(HalveConfig))
