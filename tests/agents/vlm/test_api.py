"""``ApiAgent``: requests, answers, retries, and a real server."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from opera_agents.vlm.agent import SHIPPED, make_vlm
from opera_agents.vlm.api import ApiAgent
from opera_agents.vlm.prompt import build_system_prompt
from opera_agents.vlm.saved import load_card
from opera_env.agents import run_agent
from opera_env.data.images import to_array
from opera_env.envs.observation import Episode, observe
from opera_env.errors import PlanParseError
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import Agent, Sample, TokenCount
from tests.served import free_port, wait_for

GOOD = "<think>Noise.</think><degradation>['noise']</degradation><answer>['tiny.blur']</answer>"


def test_answers_may_name_the_given_labels(
    serve: Callable[..., Any], toolbox: Toolbox, samples: list[Sample]
) -> None:
    server = serve(GOOD.replace("'noise'", "'salt_and_pepper'"))
    labels = ("noise", "salt_and_pepper")
    agent = ApiAgent(toolbox, server.url, degradations=labels)
    (decision,) = agent.act([observe(Episode(samples[0]), 6)])
    assert decision.degradations == {"salt_and_pepper"} and agent.degradations == labels
    system = server.requests[0]["messages"][0]["content"]
    assert system == build_system_prompt(toolbox, labels=labels) and "- salt_and_pepper\n" in system


def test_images_are_sent_losslessly_and_answers_become_plans(
    serve: Callable[..., Any], toolbox: Toolbox, samples: list[Sample]
) -> None:
    server = serve(GOOD)
    agent = ApiAgent(toolbox, server.url, "some-model")
    assert isinstance(agent, Agent)
    result = run_agent(agent, samples, PlanScorer(toolbox, "classic"), 6)
    assert result.plans == [("tiny.blur",)] * len(samples)
    assert result.decisions[0] is not None and result.decisions[0].reasoning == "Noise."
    assert len(server.requests) == len(samples)
    system, user = server.requests[0]["messages"]
    assert system["content"] == build_system_prompt(toolbox)
    sent_images = [
        np.asarray(
            Image.open(
                io.BytesIO(
                    base64.b64decode(request["messages"][1]["content"][0]["image_url"]["url"].split(",")[1])
                )
            )
        )
        for request in server.requests
    ]
    expected = [to_array(observe(Episode(sample), 6).image) for sample in samples]
    assert all(any(np.array_equal(image, sent_image) for sent_image in sent_images) for image in expected)
    assert user["content"][1]["type"] == "text"


def test_an_answer_that_cannot_be_parsed_is_requested_once_more(
    serve: Callable[..., Any], toolbox: Toolbox, samples: list[Sample]
) -> None:
    observations = [observe(Episode(samples[0]), 6)]
    server = serve("I would denoise.", GOOD)
    (decision,) = ApiAgent(toolbox, server.url).act(observations)
    assert decision.plan == ("tiny.blur",) and decision.error is None
    conversation = server.requests[1]["messages"]
    assert conversation[2] == {"role": "assistant", "content": "I would denoise."}
    assert "expected <think>" in conversation[3]["content"]

    (decision,) = ApiAgent(toolbox, serve("No.", "Still no.").url).act(observations)
    assert isinstance(decision.error, PlanParseError) and decision.plan == ()


def test_the_tokens_of_all_requests_are_counted(
    serve: Callable[..., Any], toolbox: Toolbox, samples: list[Sample]
) -> None:
    def body(text: str, **usage: object) -> bytes:
        return json.dumps({"choices": [{"message": {"content": text}}], "usage": usage}).encode()

    observations = [observe(Episode(samples[0]), 6)]
    server = serve(
        body("Hm.", prompt_tokens=90, completion_tokens=2),
        body(GOOD, prompt_tokens=110, completion_tokens=30, total_tokens=140),
    )
    (decision,) = ApiAgent(toolbox, server.url).act(observations)
    assert decision.tokens == TokenCount(200, 32)
    for usage in ({}, {"total_tokens": 7}, {"prompt_tokens": "90", "completion_tokens": -1}):
        (decision,) = ApiAgent(toolbox, serve(body(GOOD, **usage)).url).act(observations)
        assert decision.tokens is None and decision.plan == ("tiny.blur",)


def test_a_given_system_prompt_is_used(
    serve: Callable[..., Any], toolbox: Toolbox, samples: list[Sample]
) -> None:
    server = serve(GOOD)
    ApiAgent(toolbox, server.url, system_prompt="Be brief.").act([observe(Episode(samples[0]), 6)])
    assert server.requests[0]["messages"][0]["content"] == "Be brief."


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_separate_reasoning_is_joined_to_the_answer(
    serve: Callable[..., Any], toolbox: Toolbox, samples: list[Sample], field: str
) -> None:
    answer = GOOD.split("</think>")[1]
    message = {"role": "assistant", "content": answer, field: "Noise."}
    server = serve(json.dumps({"choices": [{"message": message}]}).encode())
    (decision,) = ApiAgent(toolbox, server.url).act([observe(Episode(samples[0]), 6)])
    assert (decision.plan, decision.reasoning, decision.error) == (("tiny.blur",), "Noise.", None)


def test_a_completion_without_answer_is_an_error_in_the_decision(
    serve: Callable[..., Any], toolbox: Toolbox, samples: list[Sample]
) -> None:
    message = {"role": "assistant", "content": None, "reasoning_content": "Hm, noise or rain or"}
    server = serve(json.dumps({"choices": [{"message": message}]}).encode())
    (decision,) = ApiAgent(toolbox, server.url).act([observe(Episode(samples[0]), 6)])
    assert isinstance(decision.error, PlanParseError) and len(server.requests) == 2


@pytest.mark.slow
def test_a_real_server_answers(
    samples: list[Sample], child_environment: dict[str, str], tmp_path: Path
) -> None:
    pytest.importorskip("fastapi", reason="pip install transformers[serving]")
    lite, port = Toolbox.load("lite"), free_port()
    command = [sys.executable, "-m", "opera_agents.vlm.transformers_cli", "serve", str(SHIPPED)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "float32"]
    card = load_card(SHIPPED)
    assert card is not None
    observations = [observe(Episode(sample), 6) for sample in samples[:2]]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(command, env=child_environment, stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(f"{url}/health", server, tmp_path / "log")
        agent = ApiAgent(lite, f"{url}/v1", str(SHIPPED), system_prompt=card.system_prompt)
        decisions = agent.act(observations)
    finally:
        server.terminate()
        server.wait(30)
    local_decisions = make_vlm(lite).act(observations)
    for served, local in zip(decisions, local_decisions, strict=True):
        assert served.error is None
        assert (served.plan, served.degradations) == (local.plan, local.degradations)
        assert served.reasoning == local.reasoning
