"""The critic's loss, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from opera_agents.critic.loss import critic_loss


def test_critic_loss_by_hand() -> None:
    predicted_terms = torch.tensor([[4.0, 2.0], [4.0, 1.0], [1.0, 0.0]])
    terms = torch.tensor([[4.0, 2.5], [3.0, 1.5], [7.0, 2.0]])
    computed_mask = torch.tensor([False, False])
    # R_q is 6.5, 4.5 and 9; the critic predicts 6, 5 and 1.
    value_loss = (0.125 + 0.125 + 7.5) / 3 + (0.5 + 1.5 + 8) / 3
    # The third image is of another photograph, so it is in no pair.
    preferred_prob = 1 / (1 + math.exp(-4))
    correct = math.log1p(math.exp(-2))
    ranking_loss = preferred_prob * correct + (1 - preferred_prob) * (correct + 2)
    loss = critic_loss(
        predicted_terms, terms, torch.tensor([0, 0, 1]), computed_mask, ranking_coef=2.0, temperature=0.5
    )
    assert loss.item() == pytest.approx(value_loss + 2 * ranking_loss, rel=1e-5)
    alone = critic_loss(predicted_terms, terms, torch.tensor([0, 1, 2]), computed_mask, ranking_coef=2.0)
    assert alone.item() == pytest.approx(value_loss, rel=1e-5)
    # A computed term enters the predicted R_q with its true value: 6.5, 5.5 and 3.
    known = critic_loss(predicted_terms, terms, torch.tensor([0, 1, 2]), torch.tensor([False, True]))
    assert known.item() == pytest.approx((0.0 + 0.5 + 5.5) / 3 + (0.5 + 1.5 + 8) / 3, rel=1e-5)


def test_ranking_loss_separates_images_in_the_wrong_order() -> None:
    predicted_terms = torch.tensor([[5.0], [5.0]], requires_grad=True)
    computed_mask = torch.tensor([False])
    critic_loss(
        predicted_terms,
        torch.tensor([[5.0], [5.2]]),
        torch.tensor([0, 0]),
        computed_mask,
        ranking_coef=10.0,
    ).backward()
    assert predicted_terms.grad is not None
    assert predicted_terms.grad[0] > 0 > predicted_terms.grad[1]
