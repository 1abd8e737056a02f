"""The policy is a proper distribution over decisions, and draws what it says it draws."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from opera_agents.planner.policy import PlanPolicy, SampledPlans, completion_mask

TOOLS, LABELS, LONGEST = 3, 2, 2


@pytest.fixture(scope="module")
def policy() -> PlanPolicy:
    """Small and untrained, but far from uniform."""
    torch.manual_seed(0)
    policy = PlanPolicy(TOOLS, LABELS, LONGEST, width=16, layers=1, heads=2).eval()
    with torch.no_grad():
        policy.head.weight.mul_(4)
    return policy


@pytest.fixture(scope="module")
def seen(policy: PlanPolicy) -> torch.Tensor:
    images = torch.rand(2, 3, 24, 20, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return policy.encode(images)


def every_plan() -> torch.Tensor:
    """Each plan once, as it is written: STOP ends and fills."""
    tokens = product(range(TOOLS + 1), repeat=LONGEST)
    return torch.tensor(
        [row for row in tokens if all(b == 0 for a, b in zip(row, row[1:], strict=False) if a == 0)]
    )


@pytest.mark.parametrize("image", [0, 1])
def test_probabilities_of_all_plans_and_of_all_sets_sum_to_one(
    policy: PlanPolicy, seen: torch.Tensor, image: int
) -> None:
    plans = every_plan()
    assert len(plans) == 1 + TOOLS + TOOLS**2
    nothing = torch.zeros(len(plans), LABELS, dtype=torch.bool)
    one = seen[image : image + 1]
    likely = policy.likelihood(one.expand(len(plans), -1), SampledPlans(nothing, plans))
    assert likely.plan.exp().sum().item() == pytest.approx(1, abs=1e-5)
    sets = torch.tensor(list(product([False, True], repeat=LABELS)))
    stop = torch.zeros(len(sets), LONGEST, dtype=torch.long)
    likely = policy.likelihood(one.expand(len(sets), -1), SampledPlans(sets, stop))
    assert likely.labels.exp().sum().item() == pytest.approx(1, abs=1e-5)


def test_draws_are_as_frequent_as_they_are_likely(policy: PlanPolicy, seen: torch.Tensor) -> None:
    count = 4000
    draft = policy.sample(seen[:1].expand(count, -1), torch.Generator().manual_seed(3))
    plans = every_plan()
    nothing = torch.zeros(len(plans), LABELS, dtype=torch.bool)
    expected = policy.likelihood(seen[:1].expand(len(plans), -1), SampledPlans(nothing, plans)).plan.exp()
    found = torch.stack([(draft.tokens == plan).all(1).float().mean() for plan in plans])
    assert found.sum().item() == pytest.approx(1)
    assert (found - expected).abs().max().item() < 0.03
    odds = policy.label_logits(seen[:1]).sigmoid()[0]
    assert (draft.labels.float().mean(0) - odds).abs().max().item() < 0.03


def test_entropy_is_the_expected_surprise(policy: PlanPolicy, seen: torch.Tensor) -> None:
    """The mean over draws of both is the same number: nothing is counted after STOP."""
    many = seen[:1].expand(4000, -1)
    likely = policy.likelihood(many, policy.sample(many, torch.Generator().manual_seed(4)))
    assert likely.plan_entropy.mean().item() == pytest.approx(-likely.plan.mean().item(), abs=0.06)
    assert likely.label_entropy.mean().item() == pytest.approx(-likely.labels.mean().item(), abs=0.06)


def test_the_same_generator_draws_the_same(policy: PlanPolicy, seen: torch.Tensor) -> None:
    torch.manual_seed(1)
    first = policy.sample(seen, torch.Generator().manual_seed(7))
    torch.manual_seed(2)
    second = policy.sample(seen, torch.Generator().manual_seed(7))
    assert torch.equal(first.tokens, second.tokens) and torch.equal(first.labels, second.labels)


def test_the_most_likely_tools_are_taken_one_after_another(policy: PlanPolicy, seen: torch.Tensor) -> None:
    tokens = policy.most_likely(seen).tokens
    for row, image in zip(tokens, seen, strict=True):
        for step in range(LONGEST):
            if step == 0 or row[step - 1] != 0:
                assert row[step] == policy.tool_logits(image[None], row[None, :step])[0, -1].argmax()


def test_later_tools_do_not_change_what_comes_before(policy: PlanPolicy, seen: torch.Tensor) -> None:
    a = policy.tool_logits(seen[:1], torch.tensor([[1]]))
    b = policy.tool_logits(seen[:1], torch.tensor([[2]]))
    assert torch.allclose(a[:, 0], b[:, 0], atol=1e-5) and not torch.allclose(a[:, 1], b[:, 1], atol=1e-3)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=6))
@settings(max_examples=50, deadline=None)
def test_steps_up_to_the_first_stop_count(row: list[int]) -> None:
    expected = row.index(0) + 1 if 0 in row else len(row)
    assert completion_mask(torch.tensor([row])).sum().item() == expected


def test_gradients_reach_every_parameter(policy: PlanPolicy) -> None:
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(5))
    seen = policy.encode(images)
    draft = SampledPlans(torch.ones(3, LABELS, dtype=torch.bool), torch.tensor([[1, 2], [3, 1], [2, 3]]))
    likely = policy.likelihood(seen, draft)
    (likely.labels.sum() + likely.plan.sum()).backward()
    without = [
        name for name, value in policy.named_parameters() if value.grad is None or not value.grad.any()
    ]
    policy.zero_grad()
    assert not without
