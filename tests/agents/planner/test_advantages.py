"""Rewards of pairs and group-relative advantages, against values computed by hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from opera_agents.planner.advantages import CreditAssignment, compute_advantages, pair_rewards
from opera_env.types import Decision, Outcome

RAIN, HAZE = frozenset({"rain"}), frozenset({"haze"})


def test_every_plan_is_paired_with_every_label_set() -> None:
    outcomes = [Outcome(None, r_q=6.0, num_tools=1), Outcome(None, r_q=8.0, num_tools=2)]
    decisions = [Decision(("a",), RAIN), Decision(("a", "b"), HAZE)]
    product = pair_rewards(outcomes, decisions, RAIN, "product", tool_cost=0.5)
    assert product.tolist() == [[5.5, 0.0], [7.0, 0.0]]
    gated = pair_rewards(outcomes, decisions, RAIN, "gated", tool_cost=0.0)
    assert gated.tolist() == [[7.0, 0.0], [9.0, 0.0]]


def test_label_sets_have_no_advantage_without_true_labels() -> None:
    outcomes = [Outcome(None, r_q=6.0), Outcome(None, r_q=8.0)]
    decisions = [Decision((), RAIN), Decision((), HAZE)]
    rewards = pair_rewards(outcomes, decisions, None, "product", 0.0)
    assert rewards.tolist() == [[6.0, 6.0], [8.0, 8.0]]
    assert compute_advantages(rewards[None], "paired").label.tolist() == [0.0, 0.0]


def test_joint_credit_assignment_is_that_of_the_paper() -> None:
    """(R - mean) / std of the sampled decisions, except for the constant that is added to std."""
    sampled_rewards = torch.tensor([[1.0, 2.0, 4.0, 5.0], [3.0, 3.0, 3.0, 3.0]])
    rewards = torch.full((2, 4, 4), -9.0)
    rewards[:, range(4), range(4)] = sampled_rewards
    advantages = compute_advantages(rewards, "joint")
    std = sampled_rewards[0].std(correction=0)
    assert torch.allclose(advantages.plan[:4], (sampled_rewards[0] - 3) / (std + 0.1))
    assert torch.equal(advantages.plan[4:], torch.zeros(4))
    assert torch.equal(advantages.plan, advantages.label)
    assert advantages.reward_std.tolist() == pytest.approx([std.item(), 0.0])


def test_paired_credit_assignment_ranks_plans_whatever_their_labels() -> None:
    quality, label_f1 = torch.tensor([5.0, 6.0, 7.0]), torch.tensor([1.0, 0.0, 0.5])
    advantages = compute_advantages((quality[:, None] * label_f1[None])[None], "paired")
    assert advantages.plan[0] < advantages.plan[1] < advantages.plan[2]
    assert advantages.label[1] < advantages.label[2] < advantages.label[0]


@given(st.lists(st.floats(0, 10), min_size=4, max_size=4), st.sampled_from(["paired", "joint"]))
@settings(max_examples=50, deadline=None)
def test_advantages_of_a_group_sum_to_zero(
    values: list[float], credit_assignment: CreditAssignment
) -> None:
    rewards = torch.tensor(values)[:, None].expand(4, 4)[None]
    advantages = compute_advantages(rewards, credit_assignment)
    assert advantages.plan.sum().abs() < 1e-3 and advantages.plan.abs().max() <= 2
