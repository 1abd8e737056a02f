"""R_c by rules, by a model behind a server and by a local model; retries and errors of a server."""

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
        (Decision((), None, None, PlanParseError("no")), "the answer could not be parsed"),
        (Decision(("tiny.blur",), frozenset({"noise"}), " \n"), "there is no reasoning"),
        (Decision((), frozenset({"haze"}), "Noise."), "the reasoning does not mention haze"),
        (
            Decision(("tiny.darken",), frozenset({"noise"}), "Noise."),
            "the reasoning gives no reason for tiny.darken",
        ),
    ],
)
def test_rules_find_the_first_inconsistency(
    toolbox: Toolbox, decision: Decision, inconsistency: str | None
) -> None:
    judge = RulesJudge(toolbox)
    assert judge.find_inconsistency(decision) == inconsistency
    assert judge.judge([decision, GOOD]) == [float(inconsistency is None), 1.0]


def _make_judge(server: Any, **settings: Any) -> EndpointJudge:
    return EndpointJudge(Endpoint(server.url, "judge", timeout=5.0, **settings))


def test_answers_of_the_model_are_cached(serve: Callable[..., Any]) -> None:
    server = serve("Yes", "No.")
    judge = _make_judge(server)
    other_decision = Decision(("tiny.darken",), frozenset(), "It is dark.")
    assert judge.judge([GOOD, other_decision, GOOD, other_decision]) == [1.0, 0.0, 1.0, 0.0]
    assert len(server.requests) == 2
    request = server.requests[0]
    assert request["model"] == "judge" and request["temperature"] == 0
    assert "Noise in low light." in request["messages"][1]["content"]
    assert "tiny.blur, tiny.brighten" in request["messages"][1]["content"]
    assert server.headers[0]["path"] == "/v1/chat/completions" and "Authorization" not in server.headers[0]


def test_decisions_without_reasoning_get_0_without_a_request(serve: Callable[..., Any]) -> None:
    server = serve("Yes")
    judge = _make_judge(server)
    assert judge.judge([Decision((), None, None, PlanParseError("no")), Decision((), frozenset(), "")]) == [
        0,
        0,
    ]
    assert not server.requests


def test_a_busy_server_is_retried(serve: Callable[..., Any]) -> None:
    server = serve(503, 429, "yes")
    assert _make_judge(server).judge([GOOD]) == [1.0]
    assert len(server.requests) == 3


def test_an_unreachable_server_raises(serve: Callable[..., Any]) -> None:
    with pytest.raises(EndpointError, match=r"HTTP 503"):
        _make_judge(serve(503), retries=1).judge([GOOD])
    closed = Endpoint("http://127.0.0.1:1/v1", "judge", retries=1, timeout=1.0)
    with pytest.raises(EndpointError, match=r"no answer after 2 tries.*Is the server running"):
        EndpointJudge(closed).judge([GOOD])


@pytest.mark.parametrize("body", [b"{}", b"no json", b'{"choices": []}', b'{"choices": [{"message": {}}]}'])
def test_an_answer_that_is_no_chat_completion_raises(serve: Callable[..., Any], body: bytes) -> None:
    with pytest.raises(EndpointError, match="expected a chat completion"):
        _make_judge(serve(body)).judge([GOOD])


def test_error_for_a_refusal_names_the_key_variable(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(EndpointError, match=r"HTTP 401.*Set MY_KEY"):
        _make_judge(serve(401), api_key_env="MY_KEY").judge([GOOD])
    monkeypatch.setenv("MY_KEY", "secret")
    server = serve("Yes")
    _make_judge(server, api_key_env="MY_KEY").judge([GOOD])
    assert server.headers[0]["Authorization"] == "Bearer secret"


def test_neither_yes_nor_no_raises(serve: Callable[..., Any]) -> None:
    with pytest.raises(JudgeError, match="Perhaps"):
        _make_judge(serve("Perhaps.")).judge([GOOD])
    with pytest.raises(JudgeError):
        parse_verdict("Unclear.")


def test_a_local_model_is_a_judge(
    toolbox: Toolbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = tiny_processor(toolbox, ["Yes", "No"]).tokenizer
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}\n{% endfor %}"
    tokenizer.save_pretrained(tmp_path)
    Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
        )
    ).save_pretrained(tmp_path)
    judge = LocalJudge(tmp_path)
    with pytest.raises(JudgeError, match="expected Yes or No"):
        judge.judge([GOOD])  # The model is untrained.

    def says_yes(*args: Any, input_ids: torch.Tensor, **options: Any) -> torch.Tensor:
        return torch.cat([input_ids, tokenizer("Yes", return_tensors="pt")["input_ids"]], dim=1)

    monkeypatch.setattr(judge.model, "generate", says_yes)
    assert judge.judge([GOOD]) == [1.0]
    with pytest.raises(MissingWeightsError, match="the language model"):
        LocalJudge(tmp_path / "nothing")
