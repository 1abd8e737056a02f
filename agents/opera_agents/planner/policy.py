"""A policy over whole plans: looks at an image once, says what is wrong, writes the tools."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from opera_env.encoder import Detector
from opera_env.plan import STOP

_PREFIX = 4
"""Tokens that the image becomes, before the first tool."""


@dataclass(frozen=True)
class SampledPlans:
    """A batch of decisions as numbers.

    Attributes:
        labels: Which degradations are said to be there, bool (B, K).
        tokens: The plans as Gymnasium actions, int64 (B, L): tool i is i + 1, STOP ends and fills.
    """

    labels: Tensor
    tokens: Tensor

    def __getitem__(self, rows: slice | Tensor) -> SampledPlans:
        return SampledPlans(self.labels[rows], self.tokens[rows])


@dataclass(frozen=True)
class LogProbs:
    """How likely a policy is to say what a draft says.

    Attributes:
        labels: Log-probability of the set, (B,).
        plan: Log-probability of the plan, (B,).
        label_entropy: Entropy of the set in nats, (B,).
        plan_entropy: Entropy of the next tool, summed over the steps of the plan, (B,).
    """

    labels: Tensor
    plan: Tensor
    label_entropy: Tensor
    plan_entropy: Tensor


class PlanPolicy(nn.Module):
    """A distribution over decisions, given images.

    A convolutional encoder of any image size describes the image; a linear head gives each degradation
    its odds; a small causal transformer, to which the description is a prefix, gives the next tool
    or STOP its odds. Set and plan are independent, given the image.

    Args:
        tools: How many tools there are.
        labels: How many kinds of degradation.
        max_tools: Longest plan.
        width: Of the transformer.
        layers: Of the transformer.
        heads: Of its attention.
    """

    def __init__(
        self, tools: int, labels: int, max_tools: int, width: int = 128, layers: int = 2, heads: int = 4
    ) -> None:
        super().__init__()
        self.max_tools, self.width = max_tools, width
        self.detector = Detector(labels)
        self.prefix = nn.Linear(self.detector.encoder.features, _PREFIX * width)
        self.embedding = nn.Embedding(tools + 1, width)  # STOP stands for the beginning, too
        self.position = nn.Parameter(torch.zeros(_PREFIX + max_tools, width))
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout=0.0, batch_first=True, norm_first=True
        )
        self.transformer = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, tools + 1)

    def encode(self, images: Tensor) -> Tensor:
        """Looks at images, float32 (B, 3, H, W) in [0, 1]; returns descriptions (B, features)."""
        return self.detector.encoder(images)

    def label_logits(self, seen: Tensor) -> Tensor:
        """Returns the log-odds of each degradation, (B, K)."""
        return self.detector.head(seen)

    def tool_logits(self, seen: Tensor, tokens: Tensor) -> Tensor:
        """Returns log-odds of each step's tool, given the tools before it.

        Args:
            seen: Descriptions (B, features).
            tokens: int64 (B, T) with T < max_tools: the plans so far.

        Returns:
            (B, T + 1, tools + 1).
        """
        prefix = self.prefix(seen).view(len(seen), _PREFIX, self.width)
        before = self.embedding(F.pad(tokens, (1, 0), value=STOP))
        x = torch.cat([prefix, before], dim=1)
        length = x.shape[1]
        causal = torch.full((length, length), float("-inf"), device=x.device).triu(1)
        x = self.transformer(x + self.position[:length], mask=causal)
        return self.head(self.norm(x[:, _PREFIX:]))

    def likelihood(self, seen: Tensor, draft: SampledPlans) -> LogProbs:
        """Returns how likely drafts are, (B,) each; gradients flow."""
        odds = self.label_logits(seen)
        of_labels = -F.binary_cross_entropy_with_logits(odds, draft.labels.float(), reduction="none")
        label_entropy = F.binary_cross_entropy_with_logits(odds, odds.sigmoid(), reduction="none")
        log_p = self.tool_logits(seen, draft.tokens[:, :-1]).log_softmax(-1)
        said = log_p.gather(-1, draft.tokens[..., None])[..., 0]
        going = completion_mask(draft.tokens)
        return LogProbs(
            labels=of_labels.sum(1),
            plan=(said * going).sum(1),
            label_entropy=label_entropy.sum(1),
            plan_entropy=(-(log_p.exp() * log_p).sum(-1) * going).sum(1),
        )

    @torch.no_grad()
    def sample(self, seen: Tensor, generator: torch.Generator) -> SampledPlans:
        """Draws a decision for each description.

        Args:
            seen: Descriptions (B, features); repeat one to draw several.
            generator: The only source of chance, on the CPU.
        """
        labels = torch.bernoulli(self.label_logits(seen).sigmoid().cpu(), generator=generator)

        def draw(odds: Tensor) -> Tensor:
            return torch.multinomial(odds.softmax(-1).cpu(), 1, generator=generator)[:, 0].to(seen.device)

        return SampledPlans(labels.bool().to(seen.device), self._write(seen, draw))

    @torch.no_grad()
    def most_likely(self, seen: Tensor) -> SampledPlans:
        """Returns the decision that is most likely, label by label and tool by tool."""
        return SampledPlans(self.label_logits(seen) > 0, self._write(seen, lambda odds: odds.argmax(-1)))

    def _write(self, seen: Tensor, choose: Callable[[Tensor], Tensor]) -> Tensor:
        """Writes plans tool by tool until every one has stopped."""
        tokens = torch.full((len(seen), self.max_tools), STOP, device=seen.device)
        going = torch.ones(len(seen), dtype=torch.bool, device=seen.device)
        for step in range(self.max_tools):
            odds = self.tool_logits(seen, tokens[:, :step])[:, -1]
            tokens[:, step] = torch.where(going, choose(odds), STOP)
            going = going & (tokens[:, step] != STOP)
            if not going.any():
                break
        return tokens


def completion_mask(tokens: Tensor) -> Tensor:
    """Marks the steps that a policy decided: up to the first STOP, that one included; float (B, L).

    Example:
        >>> completion_mask(torch.tensor([[3, 1, 0, 0], [0, 0, 0, 0]])).tolist()
        [[1.0, 1.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0]]
    """
    stopped = (tokens == STOP).cumsum(1)
    return F.pad(stopped[:, :-1] == 0, (1, 0), value=True).float()
