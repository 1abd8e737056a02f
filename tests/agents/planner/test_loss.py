"""The terms of the GRPO loss, against values computed by hand."""

from __future__ import annotations

import math

import pytest
import torch

from opera_agents.planner.advantages import Advantages
from opera_agents.planner.loss import approximate_kl, expected_reward_loss, grpo_loss
from opera_agents.planner.policy import LogProbs


def log_probs(label: list[float], plan: list[float] | torch.Tensor, entropy: float = 0.0) -> LogProbs:
    plan = torch.as_tensor(plan)
    return LogProbs(torch.tensor(label), plan, torch.zeros(len(plan)), torch.full((len(plan),), entropy))


def test_gradient_at_the_sampling_policy_is_the_advantage() -> None:
    old = log_probs([-1.0, -1.0], [-2.0, -3.0])
    plan = torch.tensor([-2.0, -3.0], requires_grad=True)
    advantages = Advantages(torch.zeros(2), torch.tensor([1.0, -0.5]), torch.ones(1))
    actual = grpo_loss(log_probs([-1.0, -1.0], plan), old, advantages, clip_range=0.2)
    assert actual.clip_fraction == 0 and actual.approx_kl == pytest.approx(0)
    actual.loss.backward()
    assert plan.grad is not None and plan.grad.tolist() == pytest.approx([-0.5, 0.25])


@pytest.mark.parametrize(
    ("advantage", "log_ratio", "has_gradient"), [(1, 0.3, False), (1, -0.3, True), (-1, -0.3, False)]
)
def test_ratio_outside_the_clip_range_has_no_gradient_in_the_direction_of_its_advantage(
    advantage: float, log_ratio: float, has_gradient: bool
) -> None:
    plan = torch.tensor([-2.0 + log_ratio], requires_grad=True)
    advantages = Advantages(torch.zeros(1), torch.tensor([float(advantage)]), torch.ones(1))
    actual = grpo_loss(log_probs([-1.0], plan), log_probs([-1.0], [-2.0]), advantages, clip_range=0.2)
    actual.loss.backward()
    assert plan.grad is not None and bool(plan.grad.any()) == has_gradient
    assert actual.clip_fraction == 0.5 and actual.approx_kl > 0


def test_joint_credit_assignment_uses_one_ratio_for_labels_and_plan() -> None:
    old, new = log_probs([-1.0], [-2.0]), log_probs([-1.1], [-1.9])
    advantages = Advantages(torch.tensor([1.0]), torch.tensor([1.0]), torch.ones(1))
    joint = grpo_loss(new, old, advantages, clip_range=0.2, credit_assignment="joint")
    paired = grpo_loss(new, old, advantages, clip_range=0.2, credit_assignment="paired")
    assert joint.loss.item() == pytest.approx(-1.0)
    assert paired.loss.item() == pytest.approx(-math.exp(0.1) - math.exp(-0.1))


def test_loss_is_the_weighted_sum_of_its_terms() -> None:
    old, new = log_probs([-1.0], [-2.0]), log_probs([-0.9], [-2.05], entropy=1.5)
    advantages = Advantages(torch.tensor([0.5]), torch.tensor([1.0]), torch.ones(1))
    actual = grpo_loss(
        new,
        old,
        advantages,
        clip_range=0.2,
        ent_coef=0.03,
        label_coef=0.5,
        label_logits=torch.tensor([[0.0, 2.0]]),
        true_labels=torch.tensor([[1.0, 0.0]]),
        kl_coef=0.1,
        reference_log_probs=torch.tensor([-2.5]),
    )
    assert actual.policy_loss.item() == pytest.approx(-math.exp(-0.05) - 0.5 * math.exp(0.1))
    assert actual.entropy_loss.item() == pytest.approx(-1.5)
    assert actual.label_loss.item() == pytest.approx((math.log(2) + math.log(1 + math.exp(2))) / 2)
    assert actual.kl_loss.item() == pytest.approx(math.exp(0.45) - 0.45 - 1)
    expected = (
        actual.policy_loss + 0.03 * actual.entropy_loss + 0.5 * actual.label_loss + 0.1 * actual.kl_loss
    )
    assert actual.loss.item() == pytest.approx(expected.item())


def test_terms_without_a_coefficient_are_zero_and_have_no_gradient() -> None:
    label_logits = torch.zeros(1, 2, requires_grad=True)
    plan = torch.tensor([-2.0], requires_grad=True)
    advantages = Advantages(torch.zeros(1), torch.ones(1), torch.ones(1))
    actual = grpo_loss(
        log_probs([-1.0], plan),
        log_probs([-1.0], [-2.0]),
        advantages,
        clip_range=0.2,
        label_logits=label_logits,
        true_labels=torch.ones(1, 2),
        reference_log_probs=torch.tensor([-100.0]),
    )
    actual.loss.backward()
    assert actual.label_loss.item() == 0 and actual.kl_loss.item() == 0
    assert label_logits.grad is None
    assert actual.loss.item() == actual.policy_loss.item()


def test_approximate_kl_is_never_negative() -> None:
    log_ratios = torch.linspace(-3, 3, 31)
    assert (approximate_kl(log_ratios) >= 0).all() and approximate_kl(torch.zeros(1)).item() == 0


def test_expected_reward_and_its_exact_gradient() -> None:
    """The first image's candidates have probabilities 1/2, 1/4, 1/4 and a mean reward of 5."""
    log_prob = torch.tensor([[-1.0, -1.0 - math.log(2), -1.0 - math.log(2)], [-3.0, -9.0, 0.0]])
    log_prob.requires_grad_()
    rewards = torch.tensor([[6.0, 5.0, 3.0], [2.0, 4.0, 9.0]])
    is_candidate = torch.tensor([[True, True, True], [True, False, False]])
    loss = expected_reward_loss(log_prob, rewards, is_candidate)
    assert loss.item() == pytest.approx(-(5.0 + 2.0) / 2)
    loss.backward()
    # -pi(k) A(k) for the advantages 1, 0, -2, halved by the mean over two images.
    assert log_prob.grad is not None
    assert log_prob.grad[0].tolist() == pytest.approx([-0.25, 0.0, 0.25])
    assert log_prob.grad[1].tolist() == [0, 0, 0]


def test_exact_gradient_is_the_mean_of_the_gradients_of_sampled_groups() -> None:
    """REINFORCE with the exact baseline, averaged over 20,000 plans that the policy samples."""
    torch.manual_seed(0)
    logits, rewards = torch.tensor([[0.5, -0.5, 0.0]], requires_grad=True), torch.tensor([[1.0, 3.0, 2.0]])
    expected_reward_loss(logits, rewards, torch.ones(1, 3, dtype=torch.bool)).backward()
    probabilities = logits.detach().softmax(1)[0]
    sampled = torch.multinomial(probabilities, 20_000, replacement=True)
    advantages = rewards[0, sampled] - (probabilities * rewards[0]).sum()
    scores = torch.nn.functional.one_hot(sampled, 3) - probabilities
    assert logits.grad is not None
    assert torch.allclose(logits.grad[0], -(advantages[:, None] * scores).mean(0), atol=0.02)
