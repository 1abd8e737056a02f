"""Search functions on a scorer whose rewards are known in closed form."""

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from opera_env.search import all_plans, beam_search, best_plan, plan_rewards
from opera_env.types import Outcome, Plan, Sample, SampleSpec

NAMES = ("a", "b", "c")


class TableScorer:
    """Scores a plan by the positions of its tools, with a bonus for one hidden plan."""

    tool_names = NAMES

    def __init__(self, hidden: Plan = ("b", "a", "c"), bonus: float = 10.0) -> None:
        self.hidden, self.bonus = hidden, bonus

    def value(self, plan: Plan) -> float:
        steps = sum((1 if name == "a" else -0.1) / (position + 1) for position, name in enumerate(plan))
        return steps + (self.bonus if plan == self.hidden else 0)

    def score(
        self, samples: Sequence[Sample], plans: Sequence[Plan], *, restored: bool = True
    ) -> list[Outcome]:
        return [Outcome(None, r_q=self.value(plan), num_tools=len(plan)) for plan in plans]


def sample() -> Sample:
    image = torch.zeros(3, 8, 8)
    return Sample(image, image, frozenset(), (8, 8), SampleSpec("none", 0))


def test_all_plans_are_complete_and_shortest_first() -> None:
    plans = all_plans(NAMES, 3)
    assert len(plans) == len(set(plans)) == 1 + 3 + 9 + 27
    assert [len(plan) for plan in plans] == sorted(len(plan) for plan in plans)


def test_plan_rewards_subtract_the_tool_cost() -> None:
    assert plan_rewards([sample()], [("a", "b")], TableScorer(), tool_cost=0.5) == [
        pytest.approx(1 - 0.05 - 1.0)
    ]


@given(
    st.dictionaries(st.lists(st.sampled_from(NAMES), max_size=4).map(tuple), st.floats(-5, 5), min_size=1)
)
def test_a_margin_selects_a_shorter_plan_close_to_the_best(rewards: dict[Plan, float]) -> None:
    top = best_plan(rewards)
    assert rewards[top] == max(rewards.values())
    near = best_plan(rewards, margin=0.5)
    assert len(near) <= len(top)
    assert rewards[near] >= rewards[top] - 0.5


def test_a_wide_beam_scores_every_plan() -> None:
    scored = beam_search([sample()], TableScorer(), width=27, max_tools=3)[0]
    assert set(scored) == set(all_plans(NAMES, 3))
    assert best_plan(scored) == ("b", "a", "c")


def test_a_beam_of_width_one_is_greedy_search() -> None:
    scored = beam_search([sample()], TableScorer(), width=1, max_tools=3)[0]
    assert best_plan(scored) == ("a", "a", "a")
    assert len(scored) == 1 + 3 * 3


def test_the_greedy_plan_stays_in_the_beam() -> None:
    """The extensions of (c, c) fill the beam; the greedy plan (a, a, a) is still scored."""
    scorer = TableScorer(hidden=("c", "c"), bonus=50.0)
    scored = beam_search([sample()], scorer, width=1, max_tools=3)[0]
    assert ("a", "a", "a") in scored


def test_several_samples_give_the_same_as_one_at_a_time() -> None:
    scorer = TableScorer()
    alone = beam_search([sample()], scorer, width=2, max_tools=2)[0]
    both = beam_search([sample(), sample()], scorer, width=2, max_tools=2)
    assert both == [alone, alone]
