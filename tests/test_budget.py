"""Budgets of searches: what a plan costs, where a search ends, and what it returns then."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from opera_baselines.greedy import Greedy
from opera_env.agents import make_agent
from opera_env.budget import BudgetedScorer
from opera_env.errors import BudgetSpentError
from opera_env.evaluation.agent_runs import run_compared_agent
from opera_env.evaluation.compare import compare_agents
from opera_env.evaluation.records import EvaluationConfig
from opera_env.execution import PrefixCache
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import Decision, Observation, Plan, Sample, Scorer

A, B, C = "tiny.brighten", "tiny.darken", "tiny.blur"


@pytest.fixture
def scorer(toolbox: Toolbox) -> PlanScorer:
    return PlanScorer(toolbox, "classic", cache=PrefixCache())


@pytest.mark.parametrize(
    ("calls", "cost"),
    [
        ([[()]], 0),
        ([[(A,)], [(A, B)], [(A, B, C)]], 3),
        ([[(A, B, C)]], 3),
        ([[(A, B), (A, C)]], 3),
        ([[(A, B)], [(A, C)]], 4),
        ([[(A, B)], [(A, B)]], 2),
        ([[(A,), (B,)], [(A, C), (B, C), ()]], 4),
    ],
)
def test_a_plan_costs_the_tools_that_the_executor_runs(
    scorer: PlanScorer, samples: list[Sample], calls: list[list[Plan]], cost: int
) -> None:
    budgeted = BudgetedScorer(scorer, 10)
    for plans in calls:
        budgeted.score([samples[0]] * len(plans), plans)
    assert budgeted.tools_run(samples[0]) == cost == scorer.tools_run


def test_plans_are_scored_until_one_is_too_expensive(scorer: PlanScorer, samples: list[Sample]) -> None:
    budgeted = BudgetedScorer(scorer, 2)
    plans = [(), (A,), (B,), (C,), (A, B)]
    with pytest.raises(BudgetSpentError, match=r"at most 2 tools.*needs 1 more.*raise the budget"):
        budgeted.score([samples[0]] * len(plans), plans)
    assert scorer.tools_run == budgeted.tools_run(samples[0]) == 2
    assert scorer.images_scored == 3
    best = max(plans[:3], key=lambda plan: scorer.score([samples[0]], [plan])[0].r_q)
    assert budgeted.best_plan(samples[0]) == best


def test_a_plan_that_does_not_fit_runs_nothing(scorer: PlanScorer, samples: list[Sample]) -> None:
    budgeted = BudgetedScorer(scorer, 2)
    with pytest.raises(BudgetSpentError, match="needs 1 more"):
        budgeted.score([samples[0]], [(A, B, C)])
    assert scorer.tools_run == 0 and budgeted.best_plan(samples[0]) == ()


def test_every_image_has_its_own_budget(scorer: PlanScorer, samples: list[Sample]) -> None:
    budgeted = BudgetedScorer(scorer, 1)
    budgeted.score(samples[:2], [(A,), (B,)])
    assert [budgeted.tools_run(sample) for sample in samples[:2]] == [1, 1]


@pytest.mark.parametrize("name", ["greedy", "beam", "exhaustive", "greedy-blind"])
@pytest.mark.parametrize("budget", [1, 4])
def test_any_search_returns_its_best_plan_when_the_budget_ends(
    name: str, budget: int, toolbox: Toolbox, samples: list[Sample]
) -> None:
    config = EvaluationConfig("classic", max_tools=2, budget=budget, regret=False)
    comparison = compare_agents(["untouched", name], samples, toolbox, config)
    assert 0 < comparison.costs[name].tools_run <= budget * len(samples)
    if name != "greedy-blind":
        rewards = {record.agent: [] for record in comparison.records}
        for record in comparison.records:
            rewards[record.agent].append(record.reward)
        assert all(a >= b for a, b in zip(rewards[name], rewards["untouched"], strict=True))


def test_a_search_with_enough_budget_is_not_disturbed(toolbox: Toolbox, samples: list[Sample]) -> None:
    search, config = Greedy(max_tools=2), EvaluationConfig("classic", max_tools=2, budget=10)
    free = PlanScorer(toolbox, "classic", cache=PrefixCache())
    limited = PlanScorer(toolbox, "classic", cache=PrefixCache())
    run = run_compared_agent("greedy", search, samples[:1], limited, config)
    assert run.plans == search.search(samples[:1], free)


class _Brightens:
    """A closed-loop agent that never stops by itself."""

    closed_loop = True

    def act(self, observations: Sequence[Observation]) -> list[Decision]:
        return [Decision((A,)) for _ in observations]


def test_a_closed_loop_agent_runs_no_more_tools_than_the_budget(
    scorer: PlanScorer, samples: list[Sample]
) -> None:
    config = EvaluationConfig("classic", max_tools=4, budget=2)
    run = run_compared_agent("mine", _Brightens(), samples[:1], scorer, config)
    assert run.plans == [(A, A)] and scorer.tools_run <= 2


def test_an_error_of_the_search_itself_is_raised(
    scorer: PlanScorer, samples: list[Sample], toolbox: Toolbox
) -> None:
    class Broken:
        def search(self, samples: Sequence[Sample], scorer: Scorer) -> list[Plan]:
            raise RuntimeError("broken")

    config = EvaluationConfig("classic", budget=2)
    with pytest.raises(Exception, match="broken"):
        run_compared_agent("broken", Broken(), samples[:1], scorer, config)


def test_a_planner_with_several_plans_keeps_to_the_budget(samples: list[Sample]) -> None:
    """With too little for its most probable plan, it returns that plan without running it."""
    lite = Toolbox.load("lite")
    alone = make_agent("planner", toolbox=lite)
    several = make_agent("planner", toolbox=lite, num_plans=8)
    for budget in (1, 6):
        scorer = PlanScorer(lite, "label_free", cache=PrefixCache())
        config = EvaluationConfig(budget=budget)
        (most_probable,) = run_compared_agent("planner", alone, samples[:1], scorer, config).plans
        run = run_compared_agent("planner-blind", several, samples[:1], scorer, config)
        assert scorer.tools_run <= budget and run.decisions[0] is not None
        if len(most_probable) > budget:
            assert run.plans == [most_probable]
