"""The GRPO loss of the planner, with all of its terms. Pure functions.

Source: the clipped objective of GRPO, as in equation 12 of the paper, without its KL term by default.
    Departures: an entropy bonus; cross-entropy of the degradation labels, which keeps the encoder trained.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from opera_agents.planner.advantages import Advantages, CreditAssignment
from opera_agents.planner.policy import LogProbs


@dataclass(frozen=True)
class GRPOLoss:
    """The loss of an update and its terms.

    Attributes:
        loss: What is minimised: the weighted sum of the terms, a scalar with gradients.
        policy_loss: Negative clipped objective.
        entropy_loss: Negative entropy of the plans.
        label_loss: Cross-entropy of the degradation labels; 0 if ``label_coef`` is 0.
        kl_loss: KL divergence from the reference policy; 0 if ``kl_coef`` is 0.
        approx_kl: Estimated KL divergence from the policy that sampled the decisions, in nats.
        clip_fraction: Share of the probability ratios that were outside the clip range.
    """

    loss: Tensor
    policy_loss: Tensor
    entropy_loss: Tensor
    label_loss: Tensor
    kl_loss: Tensor
    approx_kl: float
    clip_fraction: float

    def scalars(self) -> dict[str, float]:
        """Returns the loss and its terms as numbers, by name."""
        return {name: torch.as_tensor(value).item() for name, value in vars(self).items()}


def grpo_loss(
    new: LogProbs,
    old: LogProbs,
    advantages: Advantages,
    *,
    clip_range: float,
    credit_assignment: CreditAssignment = "paired",
    ent_coef: float = 0.0,
    label_coef: float = 0.0,
    label_logits: Tensor | None = None,
    true_labels: Tensor | None = None,
    kl_coef: float = 0.0,
    reference_log_probs: Tensor | None = None,
) -> GRPOLoss:
    """Computes the loss of a batch of B decisions.

    Args:
        new: Log-probabilities under the policy in training, with gradients.
        old: Log-probabilities under the policy that sampled the decisions.
        advantages: Advantages of the decisions.
        clip_range: PPO clip range.
        credit_assignment: "joint" uses one ratio for labels and plan together, "paired" one for each.
        ent_coef: Entropy coefficient.
        label_coef: Coefficient of the label cross-entropy.
        label_logits: Logits of the labels, (images, K); required if ``label_coef`` is not 0.
        true_labels: Targets of the label loss, float32 (images, K); required with ``label_logits``.
        kl_coef: KL coefficient.
        reference_log_probs: Those under the reference policy, (B,); required if ``kl_coef`` is not 0.
    """
    if credit_assignment == "joint":
        log_ratio = new.label_log_prob + new.plan_log_prob - old.label_log_prob - old.plan_log_prob
        terms = [(log_ratio, advantages.plan)]
    else:
        terms = [
            (new.plan_log_prob - old.plan_log_prob, advantages.plan),
            (new.label_log_prob - old.label_log_prob, advantages.label),
        ]
    policy_loss = clip_fraction = zero = torch.zeros((), device=new.plan_log_prob.device)
    for log_ratio, advantage in terms:
        ratio = log_ratio.exp()
        clipped_ratio = ratio.clamp(1 - clip_range, 1 + clip_range)
        policy_loss = policy_loss - torch.minimum(ratio * advantage, clipped_ratio * advantage).mean()
        clip_fraction = clip_fraction + ((ratio - 1).abs() > clip_range).float().mean() / len(terms)

    entropy_loss, label_loss, kl_loss = -new.plan_entropy.mean(), zero, zero
    loss = policy_loss + ent_coef * entropy_loss
    if label_coef:
        assert label_logits is not None and true_labels is not None
        label_loss = F.binary_cross_entropy_with_logits(label_logits, true_labels)
        loss = loss + label_coef * label_loss
    if kl_coef:
        assert reference_log_probs is not None
        kl_loss = approximate_kl(reference_log_probs - new.label_log_prob - new.plan_log_prob).mean()
        loss = loss + kl_coef * kl_loss

    old_to_new = old.label_log_prob + old.plan_log_prob - new.label_log_prob - new.plan_log_prob
    approx_kl = approximate_kl(old_to_new.detach()).mean()
    return GRPOLoss(
        loss, policy_loss, entropy_loss, label_loss, kl_loss, approx_kl.item(), clip_fraction.item()
    )


def expected_reward_loss(plan_log_prob: Tensor, rewards: Tensor, is_candidate: Tensor) -> Tensor:
    """Returns the negative expected reward of candidate plans whose rewards are all known.

    The expectation is over the policy restricted to the candidates, pi = softmax(plan_log_prob). Nothing is
    sampled, so that its gradient is the exact policy gradient, without variance: that of
    -sum_k pi(k) A(k), where the advantage A(k) = rewards(k) - sum_j pi(j) rewards(j) is exact too.

    Args:
        plan_log_prob: Log-probabilities of K plans for each of B images, (B, K), with gradients.
        rewards: Their rewards, (B, K).
        is_candidate: Which of the plans count, bool (B, K); at least one for each image.

    Returns:
        The mean over the images, a scalar.
    """
    probabilities = plan_log_prob.masked_fill(~is_candidate, float("-inf")).softmax(1)
    return -(probabilities * rewards).sum(1).mean()


def approximate_kl(log_ratio: Tensor) -> Tensor:
    """Estimates KL(p || q) from samples of p; never negative.

    Args:
        log_ratio: log(q / p) at the samples, any shape.

    Source: the estimator of GRPO, exp(r) - r - 1.
    """
    return log_ratio.exp() - log_ratio - 1
