"""The arithmetic of GRPO, against hand-made numbers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from opera_agents.planner import grpo
from opera_agents.planner.policy import LogProbs
from opera_env.types import Decision, Outcome

RAIN, HAZE = frozenset({"rain"}), frozenset({"haze"})


def likelihood(labels: list[float], plan: list[float]) -> LogProbs:
    zero = torch.zeros(len(plan))
    return LogProbs(torch.tensor(labels), torch.tensor(plan), zero, zero)


def test_every_plan_is_paired_with_every_set() -> None:
    outcomes = [Outcome(None, r_q=6.0, tools_run=1), Outcome(None, r_q=8.0, tools_run=2)]
    decisions = [Decision(("a",), RAIN), Decision(("a", "b"), HAZE)]
    paired = grpo.rewards(outcomes, decisions, RAIN, "product", tool_cost=0.5)
    assert paired.tolist() == [[5.5, 0.0], [7.0, 0.0]]
    gated = grpo.rewards(outcomes, decisions, RAIN, "gated", tool_cost=0.0)
    assert gated.tolist() == [[7.0, 0.0], [9.0, 0.0]]


def test_without_labels_the_set_does_not_count() -> None:
    outcomes = [Outcome(None, r_q=6.0), Outcome(None, r_q=8.0)]
    decisions = [Decision((), RAIN), Decision((), HAZE)]
    paired = grpo.rewards(outcomes, decisions, None, "product", 0.0)
    assert paired.tolist() == [[6.0, 6.0], [8.0, 8.0]]
    assert grpo.compute_advantages(paired[None], "paired").labels.tolist() == [0.0, 0.0]


def test_joint_credit_is_the_papers() -> None:
    """(R - mean) / std of what was drawn together, but for the constant against division by nothing."""
    rewards = torch.tensor([[1.0, 2.0, 4.0, 5.0], [3.0, 3.0, 3.0, 3.0]])
    paired = torch.full((2, 4, 4), -9.0)
    paired[:, range(4), range(4)] = rewards
    better = grpo.compute_advantages(paired, "joint")
    expected = (rewards[0] - 3) / (rewards[0].std(correction=0) + 0.1)
    assert torch.allclose(better.plan[:4], expected) and torch.equal(better.plan[4:], torch.zeros(4))
    assert torch.equal(better.plan, better.labels)
    assert better.spread.tolist() == pytest.approx([rewards[0].std(correction=0).item(), 0.0])


def test_paired_credit_does_not_blame_a_plan_for_its_set() -> None:
    quality, right = torch.tensor([5.0, 6.0, 7.0]), torch.tensor([1.0, 0.0, 0.5])
    better = grpo.compute_advantages((quality[:, None] * right[None])[None], "paired")
    assert better.plan[0] < better.plan[1] < better.plan[2]
    assert better.labels[1] < better.labels[2] < better.labels[0]


@given(st.lists(st.floats(0, 10), min_size=4, max_size=4), st.sampled_from(["paired", "joint"]))
@settings(max_examples=50, deadline=None)
def test_advantages_of_a_group_sum_to_nothing(rewards: list[float], credit: str) -> None:
    paired = torch.tensor(rewards)[:, None].expand(4, 4)[None]
    better = grpo.compute_advantages(paired, credit)  # pyright: ignore[reportArgumentType]
    assert better.plan.sum().abs() < 1e-3 and better.plan.abs().max() <= 2


def test_at_the_policy_that_drew_nothing_is_clipped_and_the_gradient_is_the_advantage() -> None:
    before = likelihood([-1.0, -1.0], [-2.0, -3.0])
    plan = torch.tensor([-2.0, -3.0], requires_grad=True)
    now = LogProbs(torch.tensor([-1.0, -1.0]), plan, torch.zeros(2), torch.zeros(2))
    better = grpo.Advantages(torch.zeros(2), torch.tensor([1.0, -0.5]), torch.ones(1))
    found = grpo.surrogate(now, before, better, clip=0.2, credit="paired")
    assert found.clipped == 0 and found.kl == pytest.approx(0)
    found.loss.backward()
    assert plan.grad is not None and plan.grad.tolist() == pytest.approx([-0.5, 0.25])


@pytest.mark.parametrize(
    ("advantage", "moved", "learns"), [(1, 0.3, False), (1, -0.3, True), (-1, -0.3, False)]
)
def test_what_has_moved_far_enough_is_clipped(advantage: float, moved: float, learns: bool) -> None:
    plan = torch.tensor([-2.0 + moved], requires_grad=True)
    now = LogProbs(torch.tensor([-1.0]), plan, torch.zeros(1), torch.zeros(1))
    better = grpo.Advantages(torch.zeros(1), torch.tensor([float(advantage)]), torch.ones(1))
    found = grpo.surrogate(now, likelihood([-1.0], [-2.0]), better, clip=0.2, credit="paired")
    found.loss.backward()
    assert plan.grad is not None and bool(plan.grad.any()) == learns
    assert found.clipped == 0.5 and found.kl > 0


def test_joint_ratio_is_of_set_and_plan_together() -> None:
    before, now = likelihood([-1.0], [-2.0]), likelihood([-1.1], [-1.9])
    better = grpo.Advantages(torch.tensor([1.0]), torch.tensor([1.0]), torch.ones(1))
    assert grpo.surrogate(now, before, better, 0.2, "joint").loss.item() == pytest.approx(-1.0)
    assert grpo.surrogate(now, before, better, 0.2, "paired").loss.item() != pytest.approx(-2.0, abs=1e-4)


def test_divergence_is_never_negative() -> None:
    ratios = torch.linspace(-3, 3, 31)
    assert (grpo.approximate_kl(ratios) >= 0).all() and grpo.approximate_kl(torch.zeros(1)).item() == 0
