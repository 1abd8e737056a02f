"""``mair``: stages are undone last to first; an expert takes the first tool that removes a degradation."""

from __future__ import annotations

from opera_baselines.mair import Mair
from tests.baselines.conftest import MakeWorld


def test_storage_comes_before_lens_and_scene(make_world: MakeWorld) -> None:
    world = make_world(["rain", "motion_blur", "jpeg"])
    assert world.decide(Mair(world.toolbox)).plan == ("a.jpeg", "a.motion_blur", "a.rain")
    assert len(world.tried) == 4, "the first tool removes each of them"


def test_a_tool_that_leaves_the_degradation_is_passed_over(make_world: MakeWorld) -> None:
    world = make_world(
        ["noise"], seen=lambda plan: set() if "b.noise" in plan else {"noise"}, value=lambda plan: 1.0
    )
    assert world.decide(Mair(world.toolbox)).plan == ("b.noise",)


def test_where_no_tool_succeeds_the_best_is_kept(make_world: MakeWorld) -> None:
    world = make_world(
        ["noise"],
        seen=lambda plan: {"noise"},
        value=lambda plan: {(): 1.0, ("a.noise",): 3.0, ("b.noise",): 2.0}[plan],
    )
    assert world.decide(Mair(world.toolbox)).plan == ("a.noise",)


def test_tools_that_lower_quality_are_undone(make_world: MakeWorld) -> None:
    world = make_world(["noise"], value=lambda plan: -float(len(plan)))
    decision = world.decide(Mair(world.toolbox))
    assert decision.plan == () and decision.reasoning == "noise undone."


def test_an_expert_sees_the_image_of_the_expert_before(make_world: MakeWorld) -> None:
    """The blur goes away with the compression, so that the expert of the lens has nothing to do."""
    world = make_world(
        ["motion_blur", "jpeg"], seen=lambda plan: set() if plan else {"motion_blur", "jpeg"}
    )
    assert world.decide(Mair(world.toolbox)).plan == ("a.jpeg",)
