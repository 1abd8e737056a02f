"""Conversations with calls of tools, from which a model learns the form of calls before GRPO."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.random import Generator
from PIL import Image

from opera_agents.common.plausible_plans import plausible_plan
from opera_agents.vlm.data import prompt_messages
from opera_agents.vlm.environment import RestorationWorld
from opera_agents.vlm.prompt import sample_image
from opera_env.types import Sample


@dataclass(frozen=True)
class CallConversation:
    """A conversation about one photograph.

    Attributes:
        messages: Its messages, in the form of Hugging Face's processors.
        images: The images in it, in their order.
    """

    messages: tuple[dict[str, Any], ...]
    images: tuple[Image.Image, ...]

    @property
    def text(self) -> str:
        """The calls and what was answered, for a tokenizer."""
        return json.dumps([part for message in self.messages for part in _words(message)])


def draw_calls(
    world: RestorationWorld, sample: Sample, system_prompt: str, rng: Generator
) -> CallConversation:
    """Draws a conversation that applies a plausible plan for the true degradations, and finishes.

    Args:
        world: The tools; the conversation is played in one of its environments.
        sample: The sample.
        system_prompt: The system prompt.
        rng: Source of all randomness.
    """
    system, user = prompt_messages(system_prompt)
    picture = {"type": "image"}
    messages: list[dict[str, Any]] = [
        system,
        {"role": "user", "content": [picture, {"type": "text", "text": user["content"]}]},
    ]
    images = [sample_image(sample)]
    environment = world.make_environment()
    environment.reset(spec=sample.spec.to_json())
    labels, grammar = sample.degradations or frozenset(), world.grammar
    toolbox = world.scorer.toolbox
    plan = plausible_plan(toolbox, labels, rng, grammar.max_tools, labels=grammar.degradations)
    calls: list[tuple[str, dict[str, Any]]] = [("apply_tool", {"name": name}) for name in plan]
    calls.append(("finish", {"degradations": [name for name in grammar.degradations if name in labels]}))
    for name, arguments in calls:
        function = {"name": name, "arguments": arguments}
        call = {"type": "function", "function": function}
        messages.append({"role": "assistant", "content": "", "tool_calls": [call]})
        parts: list[dict[str, Any]] = getattr(environment, name)(**arguments)
        images += [part["image"] for part in parts if part["type"] == "image"]
        shown = [picture if part["type"] == "image" else part for part in parts]
        messages.append({"role": "tool", "name": name, "content": shown})
    messages.append({"role": "assistant", "content": "Done."})
    return CallConversation(tuple(messages), tuple(images))


def collate_calls(processor: Any, conversations: Sequence[CallConversation]) -> Any:
    """Returns a batch of conversations whose labels are the tokens that the model writes.

    Args:
        processor: The model's processor; its chat template puts each message between two special tokens.
        conversations: The conversations.
    """
    texts = [
        processor.apply_chat_template(list(conversation.messages), tokenize=False)
        for conversation in conversations
    ]
    images = [list(conversation.images) for conversation in conversations]
    inputs = processor(text=texts, images=images, return_tensors="pt", padding=True)
    header = processor.tokenizer("<|im_start|>assistant\n")["input_ids"]
    labels = inputs["input_ids"].clone()
    for row in labels:
        _mask_all_but_answers(row, header, processor.tokenizer.eos_token_id)
    inputs["labels"] = labels
    return inputs


def _mask_all_but_answers(row: Any, header: Sequence[int], end: int) -> None:
    """Sets the labels of all tokens but those of the assistant, with the one that ends each answer."""
    ids, is_answer, position = row.tolist(), False, 0
    while position < len(ids):
        if not is_answer and ids[position : position + len(header)] == list(header):
            row[position : position + len(header)] = -100
            position, is_answer = position + len(header), True
            continue
        if not is_answer:
            row[position] = -100
        elif ids[position] == end:
            is_answer = False
        position += 1


def _words(message: dict[str, Any]) -> list[str]:
    content = message["content"]
    parts = [content] if isinstance(content, str) else [part.get("text", "") for part in content]
    calls = [
        f"<tool_call>{json.dumps(call['function'])}</tool_call>" for call in message.get("tool_calls", ())
    ]
    return [*parts, *calls]
