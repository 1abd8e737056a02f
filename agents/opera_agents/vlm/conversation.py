"""The messages of a model that calls functions. Training and evaluation write the same ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from opera_agents.vlm.prompt import build_messages
from opera_env.errors import AgentError
from opera_env.types import Decision

Part = dict[str, Any]
"""A part of a message: an image or a text."""

Message = dict[str, Any]
"""A message in the form of Hugging Face's processors."""

ENDED = "The restoration has ended."
"""What the model is told after its last call."""

_CLOSING = "Done."
"""What the model writes after that."""


def text_part(text: str) -> Part:
    """Returns a text as a part of a message."""
    return {"type": "text", "text": text}


def left_part(steps_left: int) -> Part:
    """Returns the part of a message that says how many tools may still run."""
    return text_part(f"{steps_left} more may run.")


def call_message(name: str, arguments: Mapping[str, Any], content: str = "") -> Message:
    """Returns the message in which the model calls a function.

    Args:
        name: Name of the function.
        arguments: Its arguments.
        content: What the model writes before the call.
    """
    call = {"type": "function", "function": {"name": name, "arguments": dict(arguments)}}
    return {"role": "assistant", "content": content, "tool_calls": [call]}


def turn_messages(decision: Decision, steps_left: int) -> list[Message]:
    """Returns the call of a decision, and its result with a place for the image.

    Args:
        decision: A decision that applies one tool, or takes one back.
        steps_left: How many tools may still run after it.

    Raises:
        AgentError: If the decision is none that one call makes.
    """
    if len(decision.plan) + decision.undo != 1:
        raise AgentError(
            "expected a history of decisions that each apply one tool or take one back, found "
            f"{decision.plan} with {decision.undo} taken back: pass the history of the same agent."
        )
    name, arguments = ("undo", {}) if decision.undo else ("apply_tool", {"name": decision.plan[0]})
    result: list[Part] = [{"type": "image"}, left_part(steps_left)]
    return [
        call_message(name, arguments, decision.reasoning or ""),
        {"role": "tool", "name": name, "content": result},
    ]


def whole_conversation(
    system_prompt: str, turns: Sequence[Decision], degradations: Sequence[str], max_tools: int
) -> list[Message]:
    """Returns the messages of an episode from its beginning to its end, with places for the images.

    Args:
        system_prompt: The system prompt.
        turns: Decisions that each apply one tool or take one back.
        degradations: What the model names at the end.
        max_tools: Maximum number of tools that run.
    """
    messages: list[Message] = list(build_messages(system_prompt))
    steps_left = max_tools
    for decision in turns:
        steps_left -= len(decision.plan)
        messages += turn_messages(decision, steps_left)
    return [
        *messages,
        call_message("finish", {"degradations": list(degradations)}),
        {"role": "tool", "name": "finish", "content": [text_part(ENDED)]},
        {"role": "assistant", "content": _CLOSING},
    ]
