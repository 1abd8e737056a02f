"""Calls of functions as decisions: those of a model that calls one function a turn."""

from __future__ import annotations

from typing import Any

import pytest

from opera_agents.vlm.functions import parse_call
from opera_env.answer import TurnGrammar
from opera_env.types import Decision

GRAMMAR = TurnGrammar(("denoise", "dehaze"), ("noise", "haze"), 4)


def message(name: Any, arguments: Any, content: str = "") -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"content": content, "tool_calls": [{"type": "function", "function": function}]}


@pytest.mark.parametrize(
    ("said", "decision"),
    [
        (message("apply_tool", {"name": "dehaze"}), Decision(("dehaze",))),
        (message("apply_tool", {"name": "dehaze"}, " Hazy.\n"), Decision(("dehaze",), None, "Hazy.")),
        (message("undo", {}), Decision((), undo=1)),
        (message("finish", {"degradations": []}), Decision((), frozenset(), finish=True)),
        (
            message("finish", {"degradations": ["haze", "haze"]}),
            Decision((), frozenset({"haze"}), finish=True),
        ),
    ],
)
def test_a_call_is_a_decision(said: dict[str, Any], decision: Decision) -> None:
    assert parse_call(said, GRAMMAR, ("denoise",)) == decision


def test_of_several_calls_the_first_one_counts() -> None:
    said = message("undo", {})
    said["tool_calls"] += message("no.function", {})["tool_calls"]
    assert parse_call(said, GRAMMAR, ("denoise",)) == Decision((), undo=1)


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ({}, "expected a call of apply_tool, undo or finish, found ''"),
        ({"content": "I am done."}, "found 'I am done.'"),
        (message("apply_tool", {"name": "eval"}), "unknown name 'eval'.*one of denoise, dehaze"),
        (message("apply_tool", {"name": ["dehaze"]}), "expected 'name' to be a text"),
        (message("apply_tool", {}), "expected the key 'name'"),
        (message("apply_tool", "dehaze"), "expected 'arguments' to be an object"),
        (message("undo", {}), "no tool was applied that could be taken back"),
        (message("finish", {}), "expected the key 'degradations'"),
        (message("finish", {"degradations": ["fire"]}), "unknown name 'fire'"),
        (message("finish", {"degradations": "haze"}), "a list of at most"),
        (message("open", {"path": "x"}), "unknown function 'open'; use apply_tool, undo, finish"),
        (message(None, {}), "expected 'name' to be a text"),
        ({"tool_calls": [{"function": 3}]}, "expected an object, found 3"),
    ],
)
def test_a_call_that_cannot_be_understood_is_an_error(said: dict[str, Any], error: str) -> None:
    decision = parse_call(said, GRAMMAR, ())
    assert decision.plan == () and decision.degradations is None and not decision.undo
    with pytest.raises(type(decision.error), match=error):  # pyright: ignore[reportArgumentType]
        raise decision.error  # pyright: ignore[reportGeneralTypeIssues]
