"""The planner's network: from an image to a distribution over sets of degradations and over whole plans."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from opera_env.encoder import Detector, Encoder
from opera_env.plan import STOP

_PREFIX_TOKENS = 4
"""Number of tokens that represent the image, before the first tool."""


@dataclass(frozen=True)
class SampledPlans:
    """A batch of decisions as tensors.

    Attributes:
        labels: The predicted degradations, bool (B, K).
        tokens: The plans as Gymnasium actions, int64 (B, L): token i + 1 is tool i; STOP ends a plan and
            fills the rest.
    """

    labels: Tensor
    tokens: Tensor

    def __getitem__(self, rows: slice | Tensor) -> SampledPlans:
        return SampledPlans(self.labels[rows], self.tokens[rows])


@dataclass(frozen=True)
class LogProbs:
    """Log-probabilities of decisions under a policy, in nats.

    Attributes:
        label_log_prob: Log-probability of the set of degradations, (B,).
        plan_log_prob: Log-probability of the plan, (B,).
        label_entropy: Entropy of the set's distribution, (B,).
        plan_entropy: Entropy of the next token's distribution, summed over the steps of the plan, (B,).
    """

    label_log_prob: Tensor
    plan_log_prob: Tensor
    label_entropy: Tensor
    plan_entropy: Tensor


class PlanPolicy(nn.Module):
    """A distribution over decisions, given images.

    A convolutional encoder turns an image of any size into features. A linear head gives a logit for each
    degradation. A small causal transformer, which gets the features as a prefix, gives logits for the next
    tool or STOP. Given the image, the set of degradations and the plan are independent.

    Args:
        num_tools: Number of tools.
        num_labels: Number of degradations.
        max_tools: Maximum number of tools in a plan.
        width: Width of the transformer.
        num_layers: Number of layers of the transformer.
        num_heads: Number of its attention heads.
        encoder: The image encoder; None for a new :class:`opera_env.encoder.ImageEncoder`.
    """

    def __init__(
        self,
        num_tools: int,
        num_labels: int,
        max_tools: int,
        width: int = 128,
        num_layers: int = 2,
        num_heads: int = 4,
        encoder: Encoder | None = None,
    ) -> None:
        super().__init__()
        self.max_tools, self.width = max_tools, width
        self.detector = Detector(num_labels, encoder)
        self.prefix = nn.Linear(self.detector.encoder.features_dim, _PREFIX_TOKENS * width)
        self.embedding = nn.Embedding(num_tools + 1, width)  # STOP is also the token before the first tool
        self.position = nn.Parameter(torch.zeros(_PREFIX_TOKENS + max_tools, width))
        layer = nn.TransformerEncoderLayer(
            width, num_heads, 4 * width, dropout=0.0, batch_first=True, norm_first=True
        )
        self.transformer = nn.TransformerEncoder(layer, num_layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, num_tools + 1)

    def encode(self, images: Tensor) -> Tensor:
        """Encodes images, float32 (B, 3, H, W) in [0, 1], as features (B, F)."""
        return self.detector.encoder(images)

    def label_logits(self, features: Tensor) -> Tensor:
        """Returns a logit for each degradation, (B, K), from features (B, F)."""
        return self.detector.head(features)

    def tool_logits(self, features: Tensor, tokens: Tensor) -> Tensor:
        """Returns logits for the token of each step, given the tokens before it.

        Args:
            features: Features of the images, (B, F).
            tokens: The plans so far, int64 (B, T) with T < max_tools.

        Returns:
            Logits (B, T + 1, num_tools + 1).
        """
        prefix = self.prefix(features).view(len(features), _PREFIX_TOKENS, self.width)
        previous = self.embedding(F.pad(tokens, (1, 0), value=STOP))
        x = torch.cat([prefix, previous], dim=1)
        length = x.shape[1]
        causal = torch.full((length, length), float("-inf"), device=x.device).triu(1)
        x = self.transformer(x + self.position[:length], mask=causal)
        return self.head(self.norm(x[:, _PREFIX_TOKENS:]))

    def evaluate_actions(self, features: Tensor, sampled_plans: SampledPlans) -> LogProbs:
        """Returns the log-probabilities of decisions, with gradients.

        Args:
            features: Features of the image of each decision, (B, F).
            sampled_plans: The decisions.
        """
        label_logits = self.label_logits(features)
        label_log_probs = -F.binary_cross_entropy_with_logits(
            label_logits, sampled_plans.labels.float(), reduction="none"
        )
        label_entropy = F.binary_cross_entropy_with_logits(
            label_logits, label_logits.sigmoid(), reduction="none"
        )
        tokens = sampled_plans.tokens
        log_probs = self.tool_logits(features, tokens[:, :-1]).log_softmax(-1)
        mask = completion_mask(tokens)
        return LogProbs(
            label_log_prob=label_log_probs.sum(1),
            plan_log_prob=_sum_tokens(log_probs, tokens, mask),
            label_entropy=label_entropy.sum(1),
            plan_entropy=(-(log_probs.exp() * log_probs).sum(-1) * mask).sum(1),
        )

    def plan_log_prob(self, features: Tensor, tokens: Tensor) -> Tensor:
        """Returns the log-probability of each plan, (B,), with gradients.

        Args:
            features: Features of the image of each plan, (B, F).
            tokens: The plans as actions, int64 (B, max_tools).
        """
        log_probs = self.tool_logits(features, tokens[:, :-1]).log_softmax(-1)
        return _sum_tokens(log_probs, tokens, completion_mask(tokens))

    @torch.no_grad()
    def sample(self, features: Tensor, generator: torch.Generator) -> SampledPlans:
        """Samples a decision for each row of features.

        Args:
            features: Features (B, F); a repeated row gets several decisions.
            generator: A generator on the CPU, which draws everything.
        """
        labels = torch.bernoulli(self.label_logits(features).sigmoid().cpu(), generator=generator)

        def sample_token(logits: Tensor) -> Tensor:
            tokens = torch.multinomial(logits.softmax(-1).cpu(), 1, generator=generator)[:, 0]
            return tokens.to(features.device)

        return SampledPlans(labels.bool().to(features.device), self._generate(features, sample_token))

    @torch.no_grad()
    def predict(self, features: Tensor) -> SampledPlans:
        """Returns the most probable value of each label and, step by step, the most probable token."""
        tokens = self._generate(features, lambda logits: logits.argmax(-1))
        return SampledPlans(self.label_logits(features) > 0, tokens)

    def _generate(self, features: Tensor, select_token: Callable[[Tensor], Tensor]) -> Tensor:
        """Generates plans token by token until all of them have stopped, int64 (B, max_tools)."""
        tokens = torch.full((len(features), self.max_tools), STOP, device=features.device)
        active = torch.ones(len(features), dtype=torch.bool, device=features.device)
        for step in range(self.max_tools):
            logits = self.tool_logits(features, tokens[:, :step])[:, -1]
            tokens[:, step] = torch.where(active, select_token(logits), STOP)
            active = active & (tokens[:, step] != STOP)
            if not active.any():
                break
        return tokens


def _sum_tokens(log_probs: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
    """Returns the log-probability of plans, (B,), from those of all tokens, (B, L, num_tools + 1)."""
    return (log_probs.gather(-1, tokens[..., None])[..., 0] * mask).sum(1)


def completion_mask(tokens: Tensor) -> Tensor:
    """Marks the tokens that a policy chose: those up to and including the first STOP, float (B, L).

    Example:
        >>> completion_mask(torch.tensor([[3, 1, 0, 0], [0, 0, 0, 0]])).tolist()
        [[1.0, 1.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0]]
    """
    stopped = (tokens == STOP).cumsum(1)
    return F.pad(stopped[:, :-1] == 0, (1, 0), value=True).float()
