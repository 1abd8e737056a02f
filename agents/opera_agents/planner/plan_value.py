"""A network that predicts the rewards of plans from the features of an image, trained on a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from opera_env.plan import STOP


class PlanValue(nn.Module):
    """Predicts R_q of plans: a recurrent network whose state stands for the image after each tool.

    Args:
        features_dim: Length of the features of an image.
        num_tools: Number of tools.
        width: Width of the recurrent state.
    """

    def __init__(self, features_dim: int, num_tools: int, width: int = 192) -> None:
        super().__init__()
        self.start = nn.Sequential(nn.Linear(features_dim, width), nn.Tanh())
        self.embedding = nn.Embedding(num_tools + 1, width)
        self.cell = nn.GRUCell(width, width)
        self.head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1))

    def forward(self, features: Tensor, plans: Tensor) -> Tensor:
        """Predicts the reward of several plans for each image.

        Args:
            features: Features of the images, (B, F).
            plans: Plans as actions, int64 (B, K, L); entries from the first STOP on are ignored.

        Returns:
            Predicted R_q, (B, K).
        """
        batch, count, length = plans.shape
        state = self.start(features).repeat_interleave(count, 0)
        tokens = plans.reshape(batch * count, length)
        for step in range(length):
            active = (tokens[:, : step + 1] != STOP).all(1, keepdim=True)
            if not active.any():
                break
            state = torch.where(active, self.cell(self.embedding(tokens[:, step]), state), state)
        return self.head(state).view(batch, count)


def value_loss(predicted: Tensor, r_q: Tensor) -> Tensor:
    """Returns the loss of predicted rewards.

    Plans are chosen by differences between plans of one image, so these count most. The level of an image
    is hard to predict and easy to fit; it is only learned as far as it helps.

    Args:
        predicted: Predicted R_q of K plans for each image, (B, K).
        r_q: Their R_q, (B, K).
    """
    level, true_level = predicted.mean(1, keepdim=True), r_q.mean(1, keepdim=True)
    differences = F.smooth_l1_loss(predicted - level, r_q - true_level, beta=0.5)
    return differences + 0.1 * F.smooth_l1_loss(level, true_level)


@dataclass(frozen=True)
class ValueScores:
    """How good the choices of a :class:`PlanValue` are, as means over samples of R_q.

    Attributes:
        chosen: R_q of the candidate with the highest predicted reward.
        best: R_q of the best candidate: what no choice can exceed.
        untouched: R_q of the empty plan.
    """

    chosen: float
    best: float
    untouched: float


@torch.inference_mode()
def score_choices(value: PlanValue, features: Tensor, plans: Tensor, r_q: Tensor) -> ValueScores:
    """Measures the choices among the candidates of a table; arguments as in :func:`train_value`."""
    chosen = value(features, plans).argmax(1, keepdim=True)
    return ValueScores(
        chosen=r_q.gather(1, chosen).mean().item(),
        best=r_q.amax(1).mean().item(),
        untouched=r_q[:, 0].mean().item(),
    )


def train_value(
    value: PlanValue,
    features: Tensor,
    plans: Tensor,
    r_q: Tensor,
    *,
    held_out: Sequence[int],
    epochs: int,
    batch_size: int,
    lr: float,
    seed: int,
) -> ValueScores:
    """Trains on a table, and keeps the weights of the epoch whose choices on held-out samples are best.

    Args:
        value: The network; gets the best weights.
        features: Features of the table's samples, (N, F), or (2, N, F) with those of the mirrored images.
        plans: Candidate plans, int64 (N, K, L).
        r_q: Their R_q, float32 (N, K).
        held_out: Indices of the samples on which epochs are compared. Samples of one photograph should be
            on one side.
        epochs: Number of passes over the other samples.
        batch_size: Number of samples in a step.
        lr: Peak learning rate; it decays to zero along a cosine.
        seed: Seed of the order of the samples.

    Returns:
        The scores of the best epoch on the held-out samples.
    """
    views = features if features.dim() == 3 else features[None]
    is_held_out = torch.zeros(len(r_q), dtype=torch.bool)
    is_held_out[list(held_out)] = True
    rows, test = (~is_held_out).nonzero()[:, 0], is_held_out.nonzero()[:, 0]
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(value.parameters(), lr=lr, weight_decay=0.02)
    steps = epochs * -(-len(rows) // batch_size)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    best_scores = score_choices(value, views[0][test], plans[test], r_q[test])
    best_weights = {name: tensor.clone() for name, tensor in value.state_dict().items()}
    for _ in range(epochs):
        for batch in rows[torch.randperm(len(rows), generator=generator)].split(batch_size):
            view = views[int(torch.randint(len(views), (), generator=generator))]
            loss = value_loss(value(view[batch], plans[batch]), r_q[batch])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(value.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
        scores = score_choices(value, views[0][test], plans[test], r_q[test])
        if scores.chosen > best_scores.chosen:
            best_scores = scores
            best_weights = {name: tensor.clone() for name, tensor in value.state_dict().items()}
    value.load_state_dict(best_weights)
    return best_scores
