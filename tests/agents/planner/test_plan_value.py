"""The value network: what it may depend on, what its loss ignores, and that it learns to choose."""

from __future__ import annotations

import torch

from opera_agents.planner.plan_value import PlanValue, score_choices, train_value, value_loss


def test_entries_after_the_end_of_a_plan_are_ignored() -> None:
    torch.manual_seed(0)
    value = PlanValue(8, num_tools=4)
    features = torch.randn(2, 8)
    plans = torch.tensor([[[1, 2, 0, 0], [3, 0, 0, 0]], [[0, 0, 0, 0], [4, 4, 4, 4]]])
    changed = torch.tensor([[[1, 2, 0, 3], [3, 0, 2, 2]], [[0, 1, 1, 1], [4, 4, 4, 4]]])
    assert torch.equal(value(features, plans), value(features, changed))


def test_the_order_of_tools_and_the_image_matter() -> None:
    torch.manual_seed(0)
    value = PlanValue(8, num_tools=4)
    plans = torch.tensor([[[1, 2, 0], [2, 1, 0], [1, 1, 0], [1, 0, 0]]])
    first, second = (value(torch.randn(1, 8), plans) for _ in range(2))
    assert len(set(first[0].tolist())) == 4
    assert not torch.allclose(first, second)


def test_the_loss_counts_differences_of_plans_more_than_the_level_of_an_image() -> None:
    r_q = torch.tensor([[1.0, 2.0, 3.0]])
    assert value_loss(r_q, r_q) == 0
    level = value_loss(r_q + 1, r_q)
    order = value_loss(r_q.flip(1), r_q)
    assert 0 < level < order


def test_it_learns_which_plan_suits_which_image() -> None:
    """The best plan depends on the sign of a feature; a constant choice is right half of the time."""
    torch.manual_seed(0)
    features = torch.randn(200, 8)
    plans = torch.tensor([[0, 0], [1, 0], [2, 0], [1, 2]]).expand(200, 4, 2)
    right = (features[:, 0] > 0).long() + 1
    r_q = torch.zeros(200, 4).scatter(1, right[:, None], 1.0)
    value = PlanValue(8, num_tools=2, width=32)
    held_out = range(150, 200)
    untrained = score_choices(value, features[150:], plans[150:], r_q[150:])
    scores = train_value(
        value, features, plans, r_q, held_out=held_out, epochs=30, batch_size=32, lr=3e-3, seed=0
    )
    assert scores.chosen > 0.85 > untrained.chosen
    assert (scores.best, scores.untouched) == (1.0, 0.0)
    again = score_choices(value, features[150:], plans[150:], r_q[150:])
    assert again == scores, "the network has the weights of the best epoch"
