"""``4kagent``: all tools of a degradation compete, and a threshold undoes steps."""

from __future__ import annotations

import pytest

from opera_baselines.fourkagent import FourKAgent
from opera_env.agents import make_agent
from opera_env.errors import AgentError
from tests.baselines.conftest import MakeWorld, ScriptedWorld

GAINS = {"a.rain": 0.5, "b.rain": 1.0, "a.noise": -2.0, "b.noise": -1.0}


def agent(world: ScriptedWorld, **options: float) -> FourKAgent:
    """The judge alone is the quality: images of the scripted world are too small for NIQE."""
    return FourKAgent(world.toolbox, profile="judge", **options)  # pyright: ignore[reportArgumentType]


def test_every_tool_of_a_degradation_runs_and_the_best_is_kept(make_world: MakeWorld) -> None:
    world = make_world(["rain"], value=lambda plan: sum(GAINS[tool] for tool in plan))
    assert world.decide(agent(world)).plan == ("b.rain",)
    assert set(world.tried) == {(), ("a.rain",), ("b.rain",)}


def test_a_step_without_enough_gain_is_undone_and_the_others_go_on(make_world: MakeWorld) -> None:
    world = make_world(["rain", "noise"], value=lambda plan: sum(GAINS[tool] for tool in plan))
    decision = world.decide(agent(world))
    assert decision.plan == ("b.rain",)
    assert decision.reasoning == "noise undone. b.rain kept, 0.00 to 1.00."
    assert world.decide(agent(world, margin=1.5)).plan == ()


def test_a_degradation_that_stays_is_taken_once(make_world: MakeWorld) -> None:
    world = make_world(["rain"], seen=lambda plan: {"rain"}, value=len)
    assert len(world.decide(agent(world)).plan) == 1


def test_profiles_follow_the_colon(make_world: MakeWorld) -> None:
    toolbox = make_world(["noise"]).toolbox
    made = make_agent("4kagent:perception", toolbox=toolbox)
    assert isinstance(made, FourKAgent) and made.quality.profile == "perception"
    with pytest.raises(AgentError, match="expected one of the profiles"):
        make_agent("4kagent:speed", toolbox=toolbox)
