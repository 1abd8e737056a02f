"""The pieces of searches, on a score that is known in closed form."""

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from opera_env.search import all_plans, beam_search, best_plan, plan_rewards
from opera_env.types import Outcome, Plan, Sample, SampleSpec

NAMES = ("a", "b", "c")


class Known:
    """Scores a plan by a table of positions and tools, with a bonus for one hidden plan."""

    tool_names = NAMES

    def __init__(self, hidden: Plan = ("b", "a", "c"), bonus: float = 10.0) -> None:
        self.hidden, self.bonus = hidden, bonus
        self.asked: list[Plan] = []

    def value(self, plan: Plan) -> float:
        steps = sum((1 if name == "a" else -0.1) / (place + 1) for place, name in enumerate(plan))
        return steps + (self.bonus if plan == self.hidden else 0)

    def score(
        self, samples: Sequence[Sample], plans: Sequence[Plan], *, restored: bool = True
    ) -> list[Outcome]:
        self.asked += plans
        return [Outcome(None, r_q=self.value(plan), tools_run=len(plan)) for plan in plans]


def sample() -> Sample:
    image = torch.zeros(3, 8, 8)
    return Sample(image, image, frozenset(), (8, 8), SampleSpec("none", 0))


def test_all_plans_are_all_and_shortest_first() -> None:
    plans = all_plans(NAMES, 3)
    assert len(plans) == len(set(plans)) == 1 + 3 + 9 + 27
    assert [len(plan) for plan in plans] == sorted(len(plan) for plan in plans)


def test_values_take_the_cost_off() -> None:
    assert plan_rewards([sample()], [("a", "b")], Known(), tool_cost=0.5) == [pytest.approx(1 - 0.05 - 1.0)]


@given(
    st.dictionaries(st.lists(st.sampled_from(NAMES), max_size=4).map(tuple), st.floats(-5, 5), min_size=1)
)
def test_best_is_the_highest_without_margin_and_never_longer_with_one(tried: dict[Plan, float]) -> None:
    top = best_plan(tried)
    assert tried[top] == max(tried.values())
    near = best_plan(tried, margin=0.5)
    assert len(near) <= len(top)
    assert tried[near] >= tried[top] - 0.5


def test_a_wide_beam_tries_everything() -> None:
    tried = beam_search([sample()], Known(), width=27, max_tools=3)[0]
    assert set(tried) == set(all_plans(NAMES, 3))
    assert best_plan(tried) == ("b", "a", "c")


def test_a_beam_of_one_is_greedy_and_misses_what_greedy_misses() -> None:
    tried = beam_search([sample()], Known(), width=1, max_tools=3)[0]
    assert best_plan(tried) == ("a", "a", "a")
    assert len(tried) == 1 + 3 * 3


def test_the_greedy_prefix_keeps_its_place() -> None:
    """Plan (c, c) is made so good that its followers fill the beam; greedy's (a, a, a) is still tried."""
    scorer = Known(hidden=("c", "c"), bonus=50.0)
    tried = beam_search([sample()], scorer, width=1, max_tools=3)[0]
    assert ("a", "a", "a") in tried


def test_samples_are_searched_in_step() -> None:
    scorer = Known()
    alone = beam_search([sample()], scorer, width=2, max_tools=2)[0]
    both = beam_search([sample(), sample()], scorer, width=2, max_tools=2)
    assert both == [alone, alone]
