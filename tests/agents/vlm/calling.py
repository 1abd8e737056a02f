"""Agents and texts of models that call functions, which several tests share."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from opera_agents.vlm.call_warm_start import call_texts
from opera_agents.vlm.prompt import make_grammar
from opera_agents.vlm.stepwise import VLMFunctionAgent
from opera_agents.vlm.tiny import tiny_processor
from opera_env.tools import Toolbox

PROMPT = "Restore it."


def call(name: str, /, **arguments: Any) -> str:
    """Returns what a model writes to call a function."""
    return f"<tool_call>{json.dumps({'name': name, 'arguments': arguments})}</tool_call>"


def calling_processor(toolbox: Toolbox) -> Any:
    texts = call_texts(toolbox, make_grammar(toolbox), PROMPT, np.random.default_rng(0), 50)
    return tiny_processor(toolbox, texts, calls_functions=True)


class ScriptedCalls(VLMFunctionAgent):
    """Its model is a list of texts; what it was asked is kept: prompt, images, seed."""

    def __init__(self, toolbox: Toolbox, *texts: str, max_tools: int = 6) -> None:
        super().__init__(toolbox, None, calling_processor(toolbox), PROMPT, max_tools)
        self.texts, self.asked = list(texts), list[tuple[str, list[Image.Image], int | None]]()

    def complete(
        self, prompts: Sequence[str], images: Sequence[Sequence[Image.Image]], seed: int | None = None
    ) -> list[str]:
        self.asked += [(prompt, [*shown], seed) for prompt, shown in zip(prompts, images, strict=True)]
        return [self.texts.pop(0) for _ in prompts]
