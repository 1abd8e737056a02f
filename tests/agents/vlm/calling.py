"""Agents and texts of models that call functions, which several tests share."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from opera_agents.vlm.call_warm_start import call_texts, collate_calls, draw_conversations
from opera_agents.vlm.prompt import make_grammar
from opera_agents.vlm.stepwise import VLMFunctionAgent
from opera_agents.vlm.tiny import tiny_model, tiny_processor
from opera_env.answer import AnswerGrammar
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import Sample

PROMPT = "Restore it."


def call(name: str, /, **arguments: Any) -> str:
    """Returns what a model writes to call a function."""
    return f"<tool_call>{json.dumps({'name': name, 'arguments': arguments})}</tool_call>"


def calling_processor(toolbox: Toolbox) -> Any:
    texts = call_texts(toolbox, make_grammar(toolbox), PROMPT, np.random.default_rng(0), 50)
    return tiny_processor(toolbox, texts, calls_functions=True)


def warm_caller(
    processor: Any, scorer: PlanScorer, grammar: AnswerGrammar, samples: Sequence[Sample]
) -> Any:
    """Returns a tiny model that calls functions now and then: it has learned a few conversations."""
    conversations = draw_conversations(scorer, grammar, samples, PROMPT, np.random.default_rng(0))
    batch = collate_calls(processor, conversations)
    model = tiny_model(processor, hidden_size=64, num_layers=1)
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3)
    for _ in range(80):
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


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
