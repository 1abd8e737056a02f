"""R_c: rules, and a model on a server that is asked once, with patience."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from opera_agents.vlm.endpoint import Endpoint
from opera_agents.vlm.judge import EndpointJudge, LocalJudge, RulesJudge, parse_verdict
from opera_agents.vlm.tiny import tiny_processor
from opera_env.errors import EndpointError, JudgeError, MissingWeightsError, PlanParseError
from opera_env.tools import Toolbox
from opera_env.types import Decision

GOOD = Decision(("tiny.blur", "tiny.brighten"), frozenset({"noise", "low_light"}), "Noise in low light.")


@pytest.mark.parametrize(
    ("decision", "inconsistency"),
    [
        (GOOD, None),
        (Decision((), frozenset(), "All is well."), None),
        (Decision(("tiny.blur",), frozenset(), "I will use tiny.blur."), None),
        (Decision((), None, None, PlanParseError("no")), "it could not be read"),
        (Decision(("tiny.blur",), frozenset({"noise"}), " \n"), "there is no reasoning"),
        (Decision((), frozenset({"haze"}), "Noise."), "haze is answered with, and not reasoned about"),
        (
            Decision(("tiny.darken",), frozenset({"noise"}), "Noise."),
            "nothing is said that asks for tiny.darken",
        ),
    ],
)
def test_rules(toolbox: Toolbox, decision: Decision, inconsistency: str | None) -> None:
    judge = RulesJudge(toolbox)
    assert judge.find_inconsistency(decision) == inconsistency
    assert judge.judge([decision, GOOD]) == [float(inconsistency is None), 1.0]


def _judge(server: Any, **settings: Any) -> EndpointJudge:
    return EndpointJudge(Endpoint(server.url, "judge", timeout=5.0, **settings))


def test_a_model_is_asked_once_about_each(serve: Callable[..., Any]) -> None:
    server = serve("Yes", "No.")
    judge = _judge(server)
    other = Decision(("tiny.darken",), frozenset(), "It is dark.")
    assert judge.judge([GOOD, other, GOOD, other]) == [1.0, 0.0, 1.0, 0.0]
    assert len(server.requests) == 2
    asked = server.requests[0]
    assert asked["model"] == "judge" and asked["temperature"] == 0
    assert "Noise in low light." in asked["messages"][1]["content"]
    assert "tiny.blur, tiny.brighten" in asked["messages"][1]["content"]
    assert server.headers[0]["path"] == "/v1/chat/completions" and "Authorization" not in server.headers[0]


def test_what_has_no_reasoning_is_not_asked_about(serve: Callable[..., Any]) -> None:
    server = serve("Yes")
    judge = _judge(server)
    assert judge.judge([Decision((), None, None, PlanParseError("no")), Decision((), frozenset(), "")]) == [
        0,
        0,
    ]
    assert not server.requests


def test_a_busy_server_is_asked_again(serve: Callable[..., Any]) -> None:
    server = serve(503, 429, "yes")
    assert _judge(server).judge([GOOD]) == [1.0]
    assert len(server.requests) == 3


def test_a_server_that_stays_away_is_an_error(serve: Callable[..., Any]) -> None:
    with pytest.raises(EndpointError, match=r"HTTP 503"):
        _judge(serve(503), retries=1).judge([GOOD])
    closed = Endpoint("http://127.0.0.1:1/v1", "judge", retries=1, timeout=1.0)
    with pytest.raises(EndpointError, match=r"no answer after 2 tries.*Is the server running"):
        EndpointJudge(closed).judge([GOOD])


@pytest.mark.parametrize("body", [b"{}", b"no json", b'{"choices": []}', b'{"choices": [{"message": {}}]}'])
def test_another_answer_is_an_error(serve: Callable[..., Any], body: bytes) -> None:
    with pytest.raises(EndpointError, match="expected a chat completion"):
        _judge(serve(body)).judge([GOOD])


def test_a_refusal_names_the_key(serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EndpointError, match=r"HTTP 401.*Set MY_KEY"):
        _judge(serve(401), api_key_env="MY_KEY").judge([GOOD])
    monkeypatch.setenv("MY_KEY", "secret")
    server = serve("Yes")
    _judge(server, api_key_env="MY_KEY").judge([GOOD])
    assert server.headers[0]["Authorization"] == "Bearer secret"


def test_neither_yes_nor_no_is_an_error(serve: Callable[..., Any]) -> None:
    with pytest.raises(JudgeError, match="Perhaps"):
        _judge(serve("Perhaps.")).judge([GOOD])
    with pytest.raises(JudgeError):
        parse_verdict("Nobody knows.")


def test_a_model_on_this_machine_is_asked(
    toolbox: Toolbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = tiny_processor(toolbox, ["Yes", "No"]).tokenizer
    words.chat_template = "{% for m in messages %}{{ m.content }}\n{% endfor %}"
    words.save_pretrained(tmp_path)
    Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(words),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
        )
    ).save_pretrained(tmp_path)
    judge = LocalJudge(tmp_path)
    with pytest.raises(JudgeError, match="expected Yes or No"):
        judge.judge([GOOD])  # it has learned nothing

    def says_yes(*args: Any, input_ids: torch.Tensor, **options: Any) -> torch.Tensor:
        return torch.cat([input_ids, words("Yes", return_tensors="pt")["input_ids"]], dim=1)

    monkeypatch.setattr(judge.model, "generate", says_yes)
    assert judge.judge([GOOD]) == [1.0]
    with pytest.raises(MissingWeightsError, match="the judge"):
        LocalJudge(tmp_path / "nothing")
