"""``qagent``: greedy over the tools of what was perceived at first, until nothing gains."""

from __future__ import annotations

from opera_baselines.qagent import QAgent
from tests.baselines.conftest import MakeWorld

GAINS = {"a.rain": 0.5, "b.rain": 1.0, "a.noise": 2.0, "b.noise": 1.5}


def test_the_largest_gain_comes_first(make_world: MakeWorld) -> None:
    world = make_world(["rain", "noise"], value=lambda plan: sum(GAINS[tool] for tool in plan))
    assert world.decide(QAgent(world.toolbox)).plan == ("a.noise", "b.rain")
    assert len(world.tried) == 1 + 4 + 2, "noise is done after its tool"


def test_it_stops_where_no_tool_gains(make_world: MakeWorld) -> None:
    world = make_world(["rain", "noise"], value=lambda plan: 1.0 if plan == ("a.noise",) else 0.0)
    assert world.decide(QAgent(world.toolbox)).plan == ("a.noise",)


def test_tools_for_what_is_not_perceived_are_not_tried(make_world: MakeWorld) -> None:
    world = make_world(["noise"], tools=["a.rain", "a.noise"])
    assert world.decide(QAgent(world.toolbox)).plan == ("a.noise",)
    assert ("a.rain",) not in world.tried


def test_the_most_severe_degradation_is_tried_first(make_world: MakeWorld) -> None:
    world = make_world(["rain", "noise"])
    graded = {"rain": 0.95, "noise": 0.7}
    severities = world.severities
    world.severities = lambda trial: {  # pyright: ignore[reportAttributeAccessIssue]
        name: graded.get(name, value) if value > 0.5 else value for name, value in severities(trial).items()
    }
    world.decide(QAgent(world.toolbox))
    assert world.tried[1] == ("a.rain",)
