"""The critic's loss: values, terms and the ranking of the images of a photograph."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def critic_loss(
    predicted_terms: Tensor,
    terms: Tensor,
    sample_index: Tensor,
    computed_mask: Tensor,
    ranking_coef: float = 1.0,
    temperature: float = 0.5,
) -> Tensor:
    """Returns the sum of the value loss, the term loss and the weighted ranking loss.

    The value loss is the smooth L1 loss of R_q, the sum of the terms. The term loss is the L1 loss of each
    term. The ranking loss is the cross entropy of which of two images of a photograph has the higher R_q
    (Bradley-Terry), with soft targets.

    Args:
        predicted_terms: Predicted terms, (N, T).
        terms: True terms, (N, T).
        sample_index: Index of the photograph of each image, (N,).
        computed_mask: Terms that are computed and not predicted when the critic is used, bool (T,). Their
            true values enter the predicted R_q.
        ranking_coef: Coefficient of the ranking loss.
        temperature: Difference in R_q at which one of two images is the better one with a probability of
            0.73.
    """
    values, r_q = torch.where(computed_mask, terms, predicted_terms).sum(1), terms.sum(1)
    loss = F.smooth_l1_loss(values, r_q) + (predicted_terms - terms).abs().sum(1).mean()
    first, second = torch.triu_indices(len(values), len(values), 1, device=values.device)
    same_sample = sample_index[first] == sample_index[second]
    first, second = first[same_sample], second[same_sample]
    if not len(first):
        return loss
    preferred_prob = ((r_q[first] - r_q[second]) / temperature).sigmoid()
    logits = (values[first] - values[second]) / temperature
    return loss + ranking_coef * F.binary_cross_entropy_with_logits(logits, preferred_prob)
