"""``ApiStepwiseAgent``: with tool calling and without, conversations, second attempts and bad calls."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from opera_agents.vlm.api_stepwise import ApiStepwiseAgent, make_api_stepwise
from opera_agents.vlm.endpoint import ToolCall
from opera_agents.vlm.functions import function_definitions, parse_calls
from opera_env.agents import make_agent, run_agent
from opera_env.answer import TurnGrammar
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import Agent, Sample, TokenCount

GRAMMAR = TurnGrammar(("a.blur", "a.darken"), ("noise", "haze"), 6)


def calls(*wanted: tuple[str, Any], content: str | None = None) -> bytes:
    """The body of a completion that calls functions."""
    made = [
        {
            "id": f"x{number}",
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(arguments)},
        }
        for number, (name, arguments) in enumerate(wanted)
    ]
    message = {"role": "assistant", "content": content, "tool_calls": made}
    usage = {"prompt_tokens": 90, "completion_tokens": 7, "total_tokens": 97}
    return json.dumps({"choices": [{"message": message}], "usage": usage}).encode()


def test_a_model_that_calls_functions(
    serve: Callable[..., Any], toolbox: Toolbox, samples: list[Sample]
) -> None:
    server = serve(
        calls(("apply_tools", {"tools": ["tiny.darken", "tiny.blur"]}), content="It is bright."),
        calls(("undo", {"count": 2}), ("apply_tools", {"tools": ["tiny.blur"]})),
        calls(("finish", {"degradations": ["noise"]})),
    )
    agent = make_api_stepwise(toolbox, path=f"m@{server.url}")
    assert isinstance(agent, Agent)
    run = run_agent(agent, samples[:1], PlanScorer(toolbox, "classic"), 6)
    assert run.plans == [("tiny.blur",)] and run.decisions[0] is not None
    assert run.decisions[0].tokens == TokenCount(3 * 90, 3 * 7), "those of all turns"
    first, _, last = server.requests
    names = [tool["function"]["name"] for tool in first["tools"]]
    assert names == ["apply_tools", "undo", "finish"] and first["model"] == "m"
    assert "call functions" in first["messages"][0]["content"]
    roles = [message["role"] for message in last["messages"]]
    assert roles == ["system", "user", "assistant", "tool", "user", "assistant", "tool", "tool", "user"]
    assistant, tool = last["messages"][2:4]
    assert (
        assistant["content"] == "It is bright." and tool["tool_call_id"] == assistant["tool_calls"][0]["id"]
    )
    assert json.loads(assistant["tool_calls"][0]["function"]["arguments"]) == {
        "tools": ["tiny.darken", "tiny.blur"]
    }
    image, text = last["messages"][-1]["content"]
    assert image["type"] == "image_url" and "Tools applied: tiny.blur. 3 more may run." in text["text"]


def test_a_model_that_answers_in_words(
    serve: Callable[..., Any], toolbox: Toolbox, samples: list[Sample]
) -> None:
    server = serve(
        "<think>Bright.</think><apply>['tiny.darken']</apply>",
        "<think>Good.</think><undo>1</undo><answer>['tiny.blur']</answer>",
    )
    agent = ApiStepwiseAgent(toolbox, server.url, calls_functions=False)
    assert run_agent(agent, samples[:1], PlanScorer(toolbox, "classic"), 6).plans == [("tiny.blur",)]
    assert "tools" not in server.requests[0] and "<undo>" in server.requests[0]["messages"][0]["content"]
    assert server.requests[1]["messages"][2] == {
        "role": "assistant",
        "content": "<think>Bright.</think><apply>['tiny.darken']</apply>",
    }


def test_words_of_a_model_that_was_offered_functions_are_read(
    serve: Callable[..., Any], toolbox: Toolbox, samples: list[Sample]
) -> None:
    server = serve("<think>Good.</think><degradation>[]</degradation><answer>['tiny.blur']</answer>")
    agent = make_agent("opera_agents.vlm.api_stepwise:ApiStepwiseAgent", toolbox=toolbox)
    assert isinstance(agent, ApiStepwiseAgent)
    agent.endpoint = ApiStepwiseAgent(toolbox, server.url).endpoint
    assert run_agent(agent, samples[:1], PlanScorer(toolbox, "classic"), 6).plans == [("tiny.blur",)]


def test_a_call_that_cannot_be_understood_is_requested_once_more(
    serve: Callable[..., Any], toolbox: Toolbox, samples: list[Sample]
) -> None:
    server = serve(calls(("apply_tools", {"tools": ["no.tool"]})), calls(("finish", {})))
    agent = ApiStepwiseAgent(toolbox, server.url)
    assert run_agent(agent, samples[:1], PlanScorer(toolbox, "classic"), 6).plans == [()]
    retry = server.requests[1]["messages"][-1]
    assert retry["role"] == "user" and "unknown name 'no.tool' in 'tools'" in retry["content"]

    run = run_agent(
        ApiStepwiseAgent(toolbox, serve("Hm.").url), samples[:1], PlanScorer(toolbox, "classic"), 6
    )
    assert run.decisions[0] is not None and run.decisions[0].error is not None


@pytest.mark.parametrize(
    ("wanted", "plan", "undo", "finish"),
    [
        ([("apply_tools", {"tools": ["a.blur"]}), ("finish", {})], ("a.blur",), 0, True),
        ([("undo", {"count": 1})], (), 1, False),
        ([("apply_tools", {"tools": ["a.blur"]}), ("undo", {"count": 2})], (), 1, False),
        ([("finish", {"degradations": ["haze"]}), ("undo", {"count": 1})], (), 0, True),
    ],
)
def test_calls_are_one_decision(
    wanted: list[tuple[str, Any]], plan: tuple[str, ...], undo: int, finish: bool
) -> None:
    asked = [ToolCall(name, json.dumps(arguments)) for name, arguments in wanted]
    decision = parse_calls(asked, "Hm.", GRAMMAR, ("a.darken", "a.blur"), 3)
    assert (decision.plan, decision.undo, decision.finish) == (plan, undo, finish)
    assert decision.error is None and decision.reasoning == "Hm."


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("apply_tools", "{", "expected JSON"),
        ("apply_tools", "[]", "expected an object"),
        ("apply_tools", "{}", "expected the key 'tools'"),
        ("apply_tools", '{"tools": "a.blur"}', "expected 'tools' to be a list"),
        ("apply_tools", '{"tools": ["a.blur", "a.blur", "a.blur"]}', "at most 2 more tools, found 3"),
        ("undo", '{"count": 2}', "expected 'count' to be a whole number from 1 to 1"),
        ("undo", '{"count": 1e999}', "expected JSON"),
        ("finish", '{"degradations": ["fire"]}', "unknown name 'fire'"),
        ("rm", "{}", "unknown function 'rm'"),
    ],
)
def test_bad_calls_are_errors_of_the_decision(name: str, arguments: str, message: str) -> None:
    decision = parse_calls([ToolCall(name, arguments)], "", GRAMMAR, ("a.blur",), 2)
    assert message in str(decision.error) and decision.plan == ()


def test_functions_name_tools_and_labels() -> None:
    apply_tools, undo, finish = function_definitions(GRAMMAR)
    assert apply_tools["parameters"]["properties"]["tools"]["items"]["enum"] == list(GRAMMAR.tools)
    assert finish["parameters"]["properties"]["degradations"]["items"]["enum"] == ["noise", "haze"]
    assert undo["parameters"]["required"] == ["count"]
