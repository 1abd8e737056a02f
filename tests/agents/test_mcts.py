"""``mcts``: one tool a simulation, priors, values, widening, and ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch

from opera_agents.common.batches import observe_sample
from opera_agents.mcts import Mcts
from opera_agents.planner.agent import Planner, make_planner
from opera_env.agents import make_agent
from opera_env.errors import ToolboxMismatchError
from opera_env.execution import PrefixCache
from opera_env.scoring import PlanScorer
from opera_env.search import all_plans
from opera_env.tools import Toolbox
from opera_env.types import Outcome, Plan, Sample, SampleSpec


class ScriptedScorer:
    """A scorer of known rewards that records what it scores."""

    def __init__(self, value: Callable[[Plan], float], names: Sequence[str]) -> None:
        self.value, self.tool_names = value, tuple(names)
        self.scored: list[Plan] = []

    def score(
        self, samples: Sequence[Sample], plans: Sequence[Plan], *, restored: bool = True
    ) -> list[Outcome]:
        self.scored += plans
        return [Outcome(None, r_q=self.value(plan), num_tools=len(plan)) for plan in plans]


@pytest.fixture
def sample() -> Sample:
    image = torch.zeros(3, 8, 8)
    return Sample(image, None, None, (8, 8), SampleSpec("none", 0))


@pytest.mark.parametrize("budget", [1, 5, 20])
def test_a_simulation_runs_one_tool(toolbox: Toolbox, samples: list[Sample], budget: int) -> None:
    scorer = PlanScorer(toolbox, "classic", cache=PrefixCache())
    search = Mcts(toolbox, max_tools=3, budget=budget, path="uniform")
    search.search(samples[:1], scorer)
    assert scorer.tools_run == budget and scorer.images_scored == budget + 1
    assert search.count_plans(len(toolbox)) == budget + 1


def test_with_a_large_budget_every_plan_is_tried(toolbox: Toolbox, sample: Sample) -> None:
    small = toolbox.subset(["tiny.blur", "tiny.darken"])
    scorer = ScriptedScorer(lambda plan: -float(len(plan)), small.names)
    assert Mcts(small, max_tools=2, budget=200, path="uniform").search([sample], scorer) == [()]
    assert sorted(scorer.scored) == sorted(all_plans(small.names, 2)), "each of them once"


def test_it_goes_where_rewards_are(toolbox: Toolbox, sample: Sample) -> None:
    """A plan of four tools is found with a small part of all 781 plans."""
    hidden = ("tiny.darken", "tiny.blur", "tiny.darken", "tiny.enlarge")

    def value(plan: Plan) -> float:
        return float(sum(a == b for a, b in zip(plan, hidden, strict=False)))

    scorer = ScriptedScorer(value, toolbox.names)
    search = Mcts(toolbox, max_tools=4, budget=120, path="uniform")
    assert search.search([sample], scorer) == [hidden]
    assert len(scorer.scored) <= 121


def test_the_tool_cost_counts(toolbox: Toolbox, sample: Sample) -> None:
    scorer = ScriptedScorer(lambda plan: 0.1 * len(plan), toolbox.names)
    assert len(Mcts(toolbox, max_tools=2, path="uniform").search([sample], scorer)[0]) == 2
    assert Mcts(toolbox, tool_cost=0.2, path="uniform").search([sample], scorer) == [()]


def test_the_planner_decides_what_is_tried_first(samples: list[Sample]) -> None:
    lite = Toolbox.load("lite")
    planner = make_planner(lite)
    assert isinstance(planner, Planner)
    (decision,) = planner.act([observe_sample(samples[0], 6)])
    scorer = ScriptedScorer(lambda plan: 0.0, lite.names)
    search = make_agent("mcts", toolbox=lite, budget=1)
    assert isinstance(search, Mcts)
    search.search(samples[:1], scorer)
    assert scorer.scored[0] == ()
    assert decision.plan and scorer.scored[1] == decision.plan[:1]


def test_a_planner_for_other_tools_is_an_error(toolbox: Toolbox) -> None:
    with pytest.raises(ToolboxMismatchError, match="the planner was trained for"):
        make_agent("mcts", toolbox=toolbox)
