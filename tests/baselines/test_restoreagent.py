"""``restoreagent``: it looks again after each tool, and undoes steps after which quality fell."""

from __future__ import annotations

from opera_baselines.restoreagent import RestoreAgent
from tests.baselines.conftest import MakeWorld


def test_the_degradation_that_came_last_is_removed_first(make_world: MakeWorld) -> None:
    world = make_world(["rain", "noise"])
    decision = world.decide(RestoreAgent(world.toolbox))
    assert decision.plan == ("a.noise", "a.rain")
    assert world.tried == [(), ("a.noise",), ("a.noise", "a.rain")]


def test_a_step_that_harms_is_undone_and_another_tool_is_taken(make_world: MakeWorld) -> None:
    def value(plan: tuple[str, ...]) -> float:
        return {(): 5.0, ("a.noise",): 4.0, ("b.noise",): 6.0}[plan]

    world = make_world(["noise"], value=value)
    decision = world.decide(RestoreAgent(world.toolbox))
    assert decision.plan == ("b.noise",)
    assert decision.reasoning == "a.noise undone. b.noise kept, 5.00 to 6.00."


def test_it_ends_where_every_tool_was_tried(make_world: MakeWorld) -> None:
    world = make_world(["rain", "noise"], value=lambda plan: 5.0 - len(plan))
    assert world.decide(RestoreAgent(world.toolbox)).plan == ()
    assert world.tried == [(), ("a.noise",), ("b.noise",), ("a.rain",), ("b.rain",)]


def test_what_appears_after_a_tool_is_restored_as_well(make_world: MakeWorld) -> None:
    seen = {(): {"low_light"}, ("a.low_light",): {"noise"}, ("a.low_light", "a.noise"): set[str]()}
    world = make_world(
        ["low_light", "noise"],
        seen=lambda plan: seen[plan],
        value=len,
        tools=["a.low_light", "a.noise"],
    )
    decision = world.decide(RestoreAgent(world.toolbox))
    assert decision.plan == ("a.low_light", "a.noise") and decision.degradations == {"low_light"}


def test_it_stops_at_the_maximum_number_of_tools(make_world: MakeWorld) -> None:
    """A degradation that never goes away, and tools that always gain."""
    world = make_world(["noise"], seen=lambda plan: {"noise"}, value=len)
    assert len(world.decide(RestoreAgent(world.toolbox, max_tools=4)).plan) == 4
