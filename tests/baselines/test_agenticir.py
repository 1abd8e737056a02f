"""``agenticir``: the schedule of experience, reflection, rollback, rescheduling and the compromise."""

from __future__ import annotations

from pathlib import Path

import pytest

from opera_baselines.agenticir import SHIPPED_EXPERIENCE, AgenticIR
from opera_env.agents import make_agent
from opera_env.degradations import DEGRADATIONS
from opera_env.errors import AgentError, MissingWeightsError
from opera_env.evaluation.experience import OrderExperience
from opera_env.types import Plan
from tests.baselines.conftest import MakeWorld, degradation_of


@pytest.fixture
def experience(tmp_path: Path) -> Path:
    """Rain before noise, against the order of formation; nothing is known of other pairs."""
    ids = {"signature": "s", "fingerprint": "f"}
    path = tmp_path / "experience.json"
    OrderExperience(DEGRADATIONS, {("rain", "noise"): 0.5}, ids, "lite", "by hand", 1).write(path)
    return path


def test_experience_decides_the_order(make_world: MakeWorld, experience: Path) -> None:
    world = make_world(["rain", "noise"])
    plan = world.decide(AgenticIR(world.toolbox, path=experience)).plan
    assert [degradation_of(tool) for tool in plan] == ["rain", "noise"]
    assert len(world.tried) == 3, "the first tool that succeeds ends a step"


def test_tools_are_tried_until_one_succeeds(make_world: MakeWorld, experience: Path) -> None:
    world = make_world(["noise"], seen=lambda plan: set() if "b.noise" in plan[-1:] else {"noise"})
    orders: set[tuple[Plan, ...]] = set()
    for seed in range(8):
        assert world.decide(AgenticIR(world.toolbox, seed=seed, path=experience)).plan == ("b.noise",)
        orders.add(tuple(world.tried))
        world.tried.clear()
    assert orders == {((), ("b.noise",)), ((), ("a.noise",), ("b.noise",))}, "the seed decides"


def test_a_failed_step_is_rolled_back_and_comes_later(make_world: MakeWorld, experience: Path) -> None:
    """Rain is first in the schedule, but only goes away after the noise."""

    def seen(plan: Plan) -> set[str]:
        kinds = [degradation_of(tool) for tool in plan]
        return {"rain", "noise"} - (
            {"noise", "rain"} if kinds == ["noise", "rain"] else {*kinds} - {"rain"}
        )

    world = make_world(["rain", "noise"], seen=seen)
    decision = world.decide(AgenticIR(world.toolbox, path=experience))
    assert [degradation_of(tool) for tool in decision.plan] == ["noise", "rain"]
    assert decision.reasoning is not None and decision.reasoning.startswith("rain undone.")


@pytest.mark.parametrize(("best", "plan"), [(6.0, ("a.noise",)), (4.0, ())])
def test_where_all_fails_the_best_result_is_kept_if_it_is_better(
    make_world: MakeWorld, experience: Path, best: float, plan: Plan
) -> None:
    values = {(): 5.0, ("a.noise",): best, ("b.noise",): 3.0}
    world = make_world(["noise"], seen=lambda plan: {"noise"}, value=lambda plan: values[plan])
    assert world.decide(AgenticIR(world.toolbox, path=experience)).plan == plan


def test_the_detector_accepts_a_step_that_lowers_quality(make_world: MakeWorld, experience: Path) -> None:
    """As in the paper: reflection asks whether the degradation is gone. A tool cost asks for more."""
    world = make_world(["noise"], value=lambda plan: -float(len(plan)))
    assert len(world.decide(AgenticIR(world.toolbox, path=experience)).plan) == 1
    assert world.decide(AgenticIR(world.toolbox, tool_cost=0.1, path=experience)).plan == ()


def test_the_shipped_experience_knows_all_pairs() -> None:
    experience = OrderExperience.read(SHIPPED_EXPERIENCE)
    assert experience.labels == DEGRADATIONS and len(experience.gains) == 28


def test_a_missing_or_wrong_file_is_an_error(make_world: MakeWorld, tmp_path: Path) -> None:
    toolbox = make_world(["noise"]).toolbox
    with pytest.raises(MissingWeightsError, match="opera-env fit-experience"):
        make_agent(f"agenticir:{tmp_path / 'none.json'}", toolbox=toolbox)
    (tmp_path / "wrong.json").write_text('{"gains": {"rain": 1}, "toolbox": {}}')
    with pytest.raises(AgentError, match=r"expected pairs of degradations.*Fit it again"):
        make_agent(f"agenticir:{tmp_path / 'wrong.json'}", toolbox=toolbox)
