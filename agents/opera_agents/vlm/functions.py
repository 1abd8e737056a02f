"""Decisions as calls of functions, for chat models with tool calling."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from opera_agents.vlm.endpoint import ToolCall
from opera_env.answer import TurnGrammar
from opera_env.errors import OperaError, PlanParseError
from opera_env.json_files import JsonObject, parse_object
from opera_env.types import Decision, Plan

_REMEDY = "Call the function once more."


def function_definitions(grammar: TurnGrammar) -> list[dict[str, Any]]:
    """Returns the functions ``apply_tools``, ``undo`` and ``finish``, as in OpenAI's API."""
    tools = {"type": "array", "items": {"type": "string", "enum": list(grammar.tools)}}
    labels = {"type": "array", "items": {"type": "string", "enum": list(grammar.degradations)}}
    count = {"type": "integer", "minimum": 1, "maximum": grammar.max_tools}
    return [
        _definition(
            "apply_tools",
            "Applies restoration tools in the order of the list, and shows the result.",
            {"tools": tools | {"description": "Names of tools."}},
        ),
        _definition(
            "undo",
            "Takes back the tools that were applied last, and shows the result.",
            {"count": count | {"description": "How many."}},
        ),
        _definition(
            "finish",
            "Ends the restoration. The photograph stays as it is now.",
            {"degradations": labels | {"description": "What was wrong with the photograph."}},
        ),
    ]


def _definition(name: str, description: str, properties: dict[str, Any]) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"name": name, "description": description, "parameters": parameters}


def parse_calls(
    calls: Sequence[ToolCall], reasoning: str, grammar: TurnGrammar, used: Plan, steps_left: int
) -> Decision:
    """Turns calls of functions into a decision; never raises.

    Args:
        calls: The calls, in their order.
        reasoning: What the model wrote beside them.
        grammar: Names of tools and labels.
        used: The plan so far.
        steps_left: How many tools may still run.

    Returns:
        The decision; with an ``error`` if a call cannot be understood.
    """
    plan: Plan = ()
    undo, finish = 0, False
    degradations: frozenset[str] | None = None
    try:
        for call in calls:
            arguments = _parse_arguments(call)
            if call.name == "apply_tools":
                plan += _names(arguments, "tools", grammar.tools)
            elif call.name == "undo":
                count = arguments.integer("count", 1, len(used) - undo + len(plan))
                undo += max(0, count - len(plan))
                plan = plan[: max(0, len(plan) - count)]
            elif call.name == "finish":
                finish = True
                if "degradations" in arguments.data:
                    degradations = frozenset(_names(arguments, "degradations", grammar.degradations))
                break
            else:
                raise PlanParseError(f"unknown function {call.name[:40]!r}; use apply_tools, undo, finish.")
        if len(plan) > steps_left:
            raise PlanParseError(f"expected at most {steps_left} more tools, found {len(plan)}.")
    except PlanParseError as error:
        return Decision((), None, reasoning, error)
    except OperaError as error:
        return Decision((), None, reasoning, PlanParseError(str(error)))
    return Decision(plan, degradations, reasoning, undo=undo, finish=finish)


def _parse_arguments(call: ToolCall) -> JsonObject:
    return parse_object(call.arguments or "{}", f"the call of {call.name[:40]}", PlanParseError, _REMEDY)


def _names(arguments: JsonObject, key: str, known: Plan) -> Plan:
    names = arguments.names(key)
    for name in names:
        _check_name(arguments, key, name, known)
    return names


def _check_name(arguments: JsonObject, key: str, name: str, known: Plan) -> None:
    if name not in known:
        arguments.fail(f"unknown name {name[:40]!r} in {key!r}; expected one of {', '.join(known)}")


def parse_call(message: Mapping[str, Any], grammar: TurnGrammar, used: Plan) -> Decision:
    """Turns the message of a model that calls one function a turn into a decision; never raises.

    Of several calls the first one counts: the model observes its result before it calls again.

    Args:
        message: The message as transformers parses it, with calls of ``apply_tool``, ``undo`` or
            ``finish``.
        grammar: Names of tools and labels.
        used: The plan so far.

    Returns:
        The decision; with an ``error`` if there is no call, or it cannot be understood.
    """
    reasoning = str(message.get("content") or "").strip() or None
    try:
        if not (calls := message.get("tool_calls")):
            raise PlanParseError(
                f"expected a call of apply_tool, undo or finish, found {(reasoning or '')[:40]!r}."
            )
        call = JsonObject(calls[0].get("function"), "the call", PlanParseError, _REMEDY)
        name = call.text("name")
        arguments = JsonObject(
            call.mapping("arguments", {}), f"the call of {name[:40]}", PlanParseError, _REMEDY
        )
        if name == "apply_tool":
            tool = arguments.text("name")
            _check_name(arguments, "name", tool, grammar.tools)
            return Decision((tool,), None, reasoning)
        if name == "undo":
            if not used:
                raise PlanParseError("no tool was applied that could be taken back.")
            return Decision((), None, reasoning, undo=1)
        if name == "finish":
            named = frozenset(_names(arguments, "degradations", grammar.degradations))
            return Decision((), named, reasoning, finish=True)
        raise PlanParseError(f"unknown function {name[:40]!r}; use apply_tool, undo, finish.")
    except PlanParseError as error:
        return Decision((), None, reasoning, error)


def format_calls(decision: Decision, turn: int) -> list[dict[str, Any]]:
    """Returns the calls of a decision as they stand in a conversation."""
    calls: list[tuple[str, dict[str, Any]]] = []
    if decision.undo:
        calls.append(("undo", {"count": decision.undo}))
    if decision.plan:
        calls.append(("apply_tools", {"tools": list(decision.plan)}))
    return [
        {
            "id": f"call_{turn}_{number}",
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(arguments)},
        }
        for number, (name, arguments) in enumerate(calls)
    ]
