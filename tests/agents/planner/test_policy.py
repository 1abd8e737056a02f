"""The policy is a distribution over decisions, and its samples follow it."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from opera_agents.planner.policy import PlanPolicy, SampledPlans, completion_mask

TOOLS, LABELS, MAX_TOOLS = 3, 2, 2


@pytest.fixture(scope="module")
def policy() -> PlanPolicy:
    """A small untrained policy whose distributions are far from uniform."""
    torch.manual_seed(0)
    policy = PlanPolicy(TOOLS, LABELS, MAX_TOOLS, width=16, num_layers=1, num_heads=2).eval()
    with torch.no_grad():
        policy.head.weight.mul_(4)
    return policy


@pytest.fixture(scope="module")
def features(policy: PlanPolicy) -> torch.Tensor:
    images = torch.rand(2, 3, 24, 20, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return policy.encode(images)


def every_plan() -> torch.Tensor:
    """Returns the tokens of every plan once: STOP ends a plan and fills the rest."""
    tokens = product(range(TOOLS + 1), repeat=MAX_TOOLS)
    return torch.tensor(
        [row for row in tokens if all(b == 0 for a, b in zip(row, row[1:], strict=False) if a == 0)]
    )


@pytest.mark.parametrize("image", [0, 1])
def test_probabilities_of_all_plans_and_of_all_label_sets_sum_to_one(
    policy: PlanPolicy, features: torch.Tensor, image: int
) -> None:
    plans = every_plan()
    assert len(plans) == 1 + TOOLS + TOOLS**2
    no_labels = torch.zeros(len(plans), LABELS, dtype=torch.bool)
    image_features = features[image : image + 1]
    log_probs = policy.evaluate_actions(
        image_features.expand(len(plans), -1), SampledPlans(no_labels, plans)
    )
    assert log_probs.plan_log_prob.exp().sum().item() == pytest.approx(1, abs=1e-5)
    sets = torch.tensor(list(product([False, True], repeat=LABELS)))
    stop = torch.zeros(len(sets), MAX_TOOLS, dtype=torch.long)
    log_probs = policy.evaluate_actions(image_features.expand(len(sets), -1), SampledPlans(sets, stop))
    assert log_probs.label_log_prob.exp().sum().item() == pytest.approx(1, abs=1e-5)


def test_samples_are_as_frequent_as_they_are_probable(policy: PlanPolicy, features: torch.Tensor) -> None:
    count = 4000
    sampled_plans = policy.sample(features[:1].expand(count, -1), torch.Generator().manual_seed(3))
    plans = every_plan()
    no_labels = torch.zeros(len(plans), LABELS, dtype=torch.bool)
    expected = policy.evaluate_actions(
        features[:1].expand(len(plans), -1), SampledPlans(no_labels, plans)
    ).plan_log_prob.exp()
    actual = torch.stack([(sampled_plans.tokens == plan).all(1).float().mean() for plan in plans])
    assert actual.sum().item() == pytest.approx(1)
    assert (actual - expected).abs().max().item() < 0.03
    probabilities = policy.label_logits(features[:1]).sigmoid()[0]
    assert (sampled_plans.labels.float().mean(0) - probabilities).abs().max().item() < 0.03


def test_entropy_is_the_mean_negative_log_probability(policy: PlanPolicy, features: torch.Tensor) -> None:
    """Only if no token after STOP is counted, the means over samples of both are the same."""
    repeated_features = features[:1].expand(4000, -1)
    log_probs = policy.evaluate_actions(
        repeated_features, policy.sample(repeated_features, torch.Generator().manual_seed(4))
    )
    assert log_probs.plan_entropy.mean().item() == pytest.approx(
        -log_probs.plan_log_prob.mean().item(), abs=0.06
    )
    assert log_probs.label_entropy.mean().item() == pytest.approx(
        -log_probs.label_log_prob.mean().item(), abs=0.06
    )


def test_equal_generators_give_equal_samples(policy: PlanPolicy, features: torch.Tensor) -> None:
    torch.manual_seed(1)
    first = policy.sample(features, torch.Generator().manual_seed(7))
    torch.manual_seed(2)
    second = policy.sample(features, torch.Generator().manual_seed(7))
    assert torch.equal(first.tokens, second.tokens) and torch.equal(first.labels, second.labels)


def test_predict_takes_the_most_probable_token_of_each_step(
    policy: PlanPolicy, features: torch.Tensor
) -> None:
    tokens = policy.predict(features).tokens
    for row, image in zip(tokens, features, strict=True):
        for step in range(MAX_TOOLS):
            if step == 0 or row[step - 1] != 0:
                assert row[step] == policy.tool_logits(image[None], row[None, :step])[0, -1].argmax()


def test_logits_do_not_depend_on_later_tokens(policy: PlanPolicy, features: torch.Tensor) -> None:
    a = policy.tool_logits(features[:1], torch.tensor([[1]]))
    b = policy.tool_logits(features[:1], torch.tensor([[2]]))
    assert torch.allclose(a[:, 0], b[:, 0], atol=1e-5) and not torch.allclose(a[:, 1], b[:, 1], atol=1e-3)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=6))
@settings(max_examples=50, deadline=None)
def test_completion_mask_counts_tokens_up_to_the_first_stop(row: list[int]) -> None:
    expected = row.index(0) + 1 if 0 in row else len(row)
    assert completion_mask(torch.tensor([row])).sum().item() == expected


def test_every_parameter_has_a_gradient(policy: PlanPolicy) -> None:
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(5))
    features = policy.encode(images)
    sampled_plans = SampledPlans(
        torch.ones(3, LABELS, dtype=torch.bool), torch.tensor([[1, 2], [3, 1], [2, 3]])
    )
    log_probs = policy.evaluate_actions(features, sampled_plans)
    (log_probs.label_log_prob.sum() + log_probs.plan_log_prob.sum()).backward()
    without = [
        name for name, value in policy.named_parameters() if value.grad is None or not value.grad.any()
    ]
    policy.zero_grad()
    assert not without
