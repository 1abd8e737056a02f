"""A halved model is half as large, and loads."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from opera_agents.vlm.agent import VLMAgent
from opera_agents.vlm.pretrained import load_vision_language_model
from opera_agents.vlm.saved import save_card, save_processor
from opera_agents.vlm.tiny import tiny_encoder_model, tiny_processor
from opera_env.encoder import ImageEncoder
from opera_env.errors import AgentError
from opera_env.tools import Toolbox
from scripts.halve_model import HalveConfig, halve


def test_a_halved_model_is_an_agent(tmp_path: Path) -> None:
    lite, folder, out = Toolbox.load("lite"), tmp_path / "model", tmp_path / "half"
    processor = tiny_processor(lite, ["Restore it."] * 9, for_encoder=True)
    model = tiny_encoder_model(processor, ImageEncoder(), hidden_size=64, num_layers=1)
    model.save_pretrained(folder)
    save_processor(processor, folder)
    with pytest.raises(AgentError, match="with its card"):
        halve(HalveConfig(folder, out))
    assert not out.exists()
    save_card("Restore it.", lite, folder)
    halve(HalveConfig(folder, out))
    sizes = [(each / "model.safetensors").stat().st_size for each in (folder, out)]
    assert sizes[1] < 0.55 * sizes[0]
    assert VLMAgent.from_pretrained(lite, out).system_prompt == "Restore it."
    loaded = load_vision_language_model(out, dtype=torch.float32).state_dict()
    for key, value in model.state_dict().items():
        assert torch.equal(loaded[key], value.half().float()), key
