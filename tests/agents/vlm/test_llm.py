"""``llm``: turns, reflection, the end of a budget, and a real server."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from opera_agents.common.batches import observe_sample
from opera_agents.vlm.agent import SHIPPED, make_vlm
from opera_agents.vlm.llm import ReflectingLlm
from opera_agents.vlm.saved import load_card
from opera_env.agents import make_agent
from opera_env.budget import BudgetedScorer
from opera_env.errors import AgentError
from opera_env.execution import PrefixCache
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import Plan, Sample
from tests.served import free_port, wait_for


def answer(*plan: str, reasoning: str = "Noise.") -> str:
    return f"<think>{reasoning}</think><degradation>['noise']</degradation><answer>{list(plan)}</answer>"


@pytest.fixture
def scorer(toolbox: Toolbox) -> PlanScorer:
    return PlanScorer(toolbox, "classic", cache=PrefixCache())


def test_with_one_turn_no_tool_runs(
    serve: Callable[..., Any], toolbox: Toolbox, scorer: PlanScorer, samples: list[Sample]
) -> None:
    server = serve(answer("tiny.blur"))
    assert reflect(server, toolbox, scorer, samples[0], turns=1) == (("tiny.blur",), "Noise.")
    assert server.requests[0]["model"] == "org/model-1" and scorer.tools_run == 0
    assert server.headers[0]["path"] == "/v1/chat/completions"


def reflect(
    server: Any, toolbox: Toolbox, scorer: Any, sample: Sample, turns: int = 3
) -> tuple[Plan, str | None]:
    search = make_agent(f"llm:org/model-1@{server.url}?turns={turns}", toolbox=toolbox)
    assert isinstance(search, ReflectingLlm)
    (decision,) = search.decide([sample], scorer)
    return decision.plan, decision.reasoning


def test_the_model_sees_the_result_and_revises_its_plan(
    serve: Callable[..., Any], toolbox: Toolbox, scorer: PlanScorer, samples: list[Sample]
) -> None:
    server = serve(answer("tiny.blur"), answer("tiny.darken", reasoning="Too bright."))
    plan, reasoning = reflect(server, toolbox, scorer, samples[0])
    assert plan == ("tiny.darken",) and reasoning == "Noise.\nToo bright."
    assert scorer.images_scored == scorer.tools_run == 2
    assert len(server.requests) == 3
    messages = server.requests[2]["messages"]
    assert [message["role"] for message in messages] == [
        *("system", "user", "assistant", "user", "assistant", "user")
    ]
    first, second, third = (messages[index]["content"] for index in (1, 3, 5))
    assert "['tiny.blur']" in second[1]["text"] and "['tiny.darken']" in third[1]["text"]
    assert len({part[0]["image_url"]["url"] for part in (first, second, third)}) == 3


@pytest.mark.parametrize(
    ("answers", "plan", "requests"),
    [
        ([answer("tiny.blur"), answer("tiny.blur")], ("tiny.blur",), 2),
        ([answer()], (), 1),
        ([answer("tiny.blur"), "Hm.", "Hm."], ("tiny.blur",), 3),
    ],
    ids=["kept", "nothing to do", "unreadable"],
)
def test_reflection_ends(
    answers: list[str],
    plan: Plan,
    requests: int,
    serve: Callable[..., Any],
    toolbox: Toolbox,
    scorer: PlanScorer,
    samples: list[Sample],
) -> None:
    server = serve(*answers)
    assert reflect(server, toolbox, scorer, samples[0], turns=9)[0] == plan
    assert len(server.requests) == requests


def test_the_budget_ends_reflection(
    serve: Callable[..., Any], toolbox: Toolbox, scorer: PlanScorer, samples: list[Sample]
) -> None:
    server = serve(answer("tiny.blur"), answer("tiny.darken", "tiny.blur"))
    budgeted = BudgetedScorer(scorer, budget=2)
    assert reflect(server, toolbox, budgeted, samples[0])[0] == ("tiny.darken", "tiny.blur")
    assert scorer.tools_run == 1 and len(server.requests) == 2


@pytest.mark.parametrize("query", ["turns=0", "turns=65", "turns=x", "speed=1", "turns=2&speed=1"])
def test_other_options_than_turns_are_errors(query: str, toolbox: Toolbox) -> None:
    with pytest.raises(AgentError, match=r"expected llm:MODEL@URL\?turns=N.*found"):
        make_agent(f"llm:m@http://127.0.0.1:8000/v1?{query}", toolbox=toolbox)


def test_three_turns_are_the_default(toolbox: Toolbox) -> None:
    search = make_agent("llm:m@http://127.0.0.1:8000/v1", toolbox=toolbox)
    assert isinstance(search, ReflectingLlm) and search.turns == 3


@pytest.mark.slow
def test_a_real_server_reflects(
    samples: list[Sample], child_environment: dict[str, str], tmp_path: Path
) -> None:
    """``transformers serve`` on loopback; the first answer is that of the same model without a server."""
    pytest.importorskip("fastapi", reason="pip install transformers[serving]")
    lite, port, card = Toolbox.load("lite"), free_port(), load_card(SHIPPED)
    assert card is not None
    command = [sys.executable, "-m", "opera_agents.vlm.transformers_cli", "serve", str(SHIPPED)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "float32"]
    scorer = PlanScorer(lite, "label_free", cache=PrefixCache())
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(command, env=child_environment, stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(f"{url}/health", server, tmp_path / "log", seconds=300)
        search = make_agent(f"llm:{SHIPPED}@{url}/v1?turns=2", toolbox=lite)
        assert isinstance(search, ReflectingLlm)
        search.agent.system_prompt = card.system_prompt
        search.agent.endpoint.options["max_tokens"] = 160
        (decision,) = search.decide(samples[:1], scorer)
    finally:
        server.terminate()
        server.wait(30)
    (local,) = make_vlm(lite).act([observe_sample(samples[0], 6)])
    assert decision.error is None and local.plan and local.reasoning
    assert scorer.images_scored == 1 and scorer.tools_run == len(local.plan)
    assert decision.reasoning is not None and decision.reasoning.startswith(local.reasoning)
