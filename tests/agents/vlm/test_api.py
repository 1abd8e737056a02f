"""A model behind a server plans like any other agent."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from opera_agents.vlm.api import ApiAgent
from opera_agents.vlm.prompt import system_prompt
from opera_env.data.images import to_array
from opera_env.envs.world import Episode, observe
from opera_env.errors import PlanParseError
from opera_env.play import play
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import Agent, Sample

GOOD = "<think>Noise.</think><degradation>['noise']</degradation><answer>['tiny.blur']</answer>"


def test_it_sees_the_image_and_plans(
    serve: Callable[..., Any], toolbox: Toolbox, samples: list[Sample]
) -> None:
    server = serve(GOOD)
    agent = ApiAgent(toolbox, server.url, "somebody's")
    assert isinstance(agent, Agent)
    played = play(agent, samples, PlanScorer(toolbox, "classic"), 6)
    assert played.plans == [("tiny.blur",)] * len(samples)
    assert played.decisions[0] is not None and played.decisions[0].reasoning == "Noise."
    assert len(server.requests) == len(samples)
    system, user = server.requests[0]["messages"]
    assert system["content"] == system_prompt(toolbox)
    shown = [
        np.asarray(
            Image.open(
                io.BytesIO(
                    base64.b64decode(request["messages"][1]["content"][0]["image_url"]["url"].split(",")[1])
                )
            )
        )
        for request in server.requests
    ]
    wanted = [to_array(observe(Episode(sample), 6).image) for sample in samples]
    assert all(any(np.array_equal(one, other) for other in shown) for one in wanted), "as PNG, bit by bit"
    assert user["content"][1]["type"] == "text"


def test_what_cannot_be_read_is_asked_for_once_more(
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


def test_instructions_of_ones_own(
    serve: Callable[..., Any], toolbox: Toolbox, samples: list[Sample]
) -> None:
    server = serve(GOOD)
    ApiAgent(toolbox, server.url, system="Be brief.").act([observe(Episode(samples[0]), 6)])
    assert server.requests[0]["messages"][0]["content"] == "Be brief."
