"""From metrics to rewards: terms and presets of R_q, the reward of environments, the reward of learners."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from opera_env.errors import RewardError, UnknownPresetError, error_message
from opera_env.imports import import_attribute
from opera_env.metrics import Metric
from opera_env.types import Decision, Outcome, Plan


@dataclass(frozen=True)
class RewardTerm:
    """The contribution of one metric to R_q: ``weight * (metric - low) / (high - low)``.

    Attributes:
        metric: The name of a shipped metric, or a metric of your own.
        low: Metric value that contributes 0. It is larger than ``high`` where lower values are better.
        high: Metric value that contributes ``weight``.
        weight: Weight of the term in R_q.
        clip: Whether values outside of the bounds are clipped to them.

    Raises:
        RewardError: If the bounds are equal or a number is not finite.
    """

    metric: str | Metric
    low: float
    high: float
    weight: float
    clip: bool = True

    def __post_init__(self) -> None:
        if self.low == self.high or not all(map(math.isfinite, (self.low, self.high, self.weight))):
            raise RewardError(
                f"the term of {self.name!r}: expected finite numbers, and a low that differs from high, "
                f"found low={self.low}, high={self.high}, weight={self.weight}."
            )

    @property
    def name(self) -> str:
        """Name of the metric."""
        return self.metric if isinstance(self.metric, str) else self.metric.name

    def contribution(self, value: float) -> float:
        """Returns the contribution of a metric value.

        Example:
            >>> RewardTerm("lpips", low=0.6, high=0.0, weight=2.0).contribution(0.3)
            1.0
        """
        scaled = (value - self.low) / (self.high - self.low)
        return self.weight * (min(1.0, max(0.0, scaled)) if self.clip else scaled)


@dataclass(frozen=True)
class Reward:
    """The definition of R_q: the sum of the contributions of its terms.

    Attributes:
        name: Name of the reward.
        terms: The terms.
        score_empty_plan: Whether the empty plan is scored like any other plan; otherwise its R_q is 0.
        max_tools: Maximum number of tools; R_q of a longer plan is 0. None for no limit.

    Raises:
        RewardError: If there are no terms.
    """

    name: str
    terms: tuple[RewardTerm, ...]
    score_empty_plan: bool = True
    max_tools: int | None = None

    def __post_init__(self) -> None:
        if not self.terms or not all(isinstance(term, RewardTerm) for term in self.terms):
            raise RewardError(
                f"the reward {self.name!r}: expected at least one RewardTerm, found {self.terms!r}."
            )

    def contributions(self, metrics: Mapping[str, float], plan: Plan) -> dict[str, float]:
        """Returns the contribution of each term by the name of its metric; their sum is R_q.

        Args:
            metrics: Metric values by name.
            plan: The plan. Only its length matters, for ``score_empty_plan`` and ``max_tools``.
        """
        zeroed = (not plan and not self.score_empty_plan) or (
            self.max_tools is not None and len(plan) > self.max_tools
        )
        return {term.name: 0.0 if zeroed else term.contribution(metrics[term.name]) for term in self.terms}


_RELEASE_TERMS = (
    RewardTerm("psnr_y", 0, 9, 1, clip=False),
    RewardTerm("ssim_y", 0, 0.3, 1, clip=False),
    RewardTerm("lpips", 0, -0.3, 2, clip=False),
    RewardTerm("clipiqa", 0, 0.1, 2, clip=False),
    RewardTerm("musiq", 0, 7.5, 2, clip=False),
)

REWARD_PRESETS: Mapping[str, Reward] = {
    reward.name: reward
    for reward in (
        Reward(
            "lite",
            (
                RewardTerm("psnr_y", 5, 40, 3),
                RewardTerm("ssim_y", 0, 1, 2.5),
                RewardTerm("lpips", 1, 0, 2.5),
                RewardTerm("niqe32", 15, 3, 1),
                RewardTerm("piqe", 100, 20, 1),
            ),
        ),
        Reward("paper", _RELEASE_TERMS),
        Reward("release", _RELEASE_TERMS, score_empty_plan=False, max_tools=6),
        Reward(
            "classic",
            (RewardTerm("psnr_y", 5, 40, 4), RewardTerm("ssim_y", 0, 1, 3), RewardTerm("gmsd", 0.35, 0, 3)),
        ),
        Reward("label_free", (RewardTerm("critic", 0, 10, 10),)),
        Reward("no_reference", (RewardTerm("niqe32", 15, 3, 5), RewardTerm("piqe", 100, 20, 5))),
    )
}
"""The reward presets. R_q of ``lite``, ``classic``, ``label_free`` and ``no_reference`` lies in [0, 10].

Source: the paper names the five metrics of its R_q but not their weights. ``paper`` and ``release`` use the
weights of the released code. Like that code, ``release`` gives 0 to the empty plan and to plans of more
than six tools.
"""


def get_reward(reward: str | Reward) -> Reward:
    """Returns the reward that a setting names, or the reward itself.

    Environments, commands and trainers all find their reward by this function.

    Args:
        reward: Name of a preset; or "module:attribute", a reward of your own or a function without
            arguments that returns one, which runs the code of the module; or a reward.

    Raises:
        UnknownPresetError: If there is no preset of that name.
        RewardError: If the module or the attribute cannot be imported, or is not a reward.
    """
    if isinstance(reward, Reward):
        return reward
    if reward in REWARD_PRESETS:
        return REWARD_PRESETS[reward]
    if ":" not in reward:
        raise UnknownPresetError("reward", reward, (*REWARD_PRESETS, "module:attribute"))
    try:
        found = import_attribute(reward)
    except (ImportError, AttributeError, ValueError) as error:
        raise RewardError(
            f"reward {reward!r} cannot be imported: {error_message(error)}. Expected module:attribute, a "
            "Reward of your own."
        ) from error
    if callable(found):
        found = found()
    if not isinstance(found, Reward):
        raise RewardError(
            f"reward {reward!r}: expected an opera_env.reward.Reward, or a function without arguments that "
            f"returns one, found {found!r}."
        )
    return found


def env_reward(outcome: Outcome, tool_cost: float) -> float:
    """Returns the reward of an environment: R_q less the cost of the tools.

    Environments, searches, comparisons and trainers all use this function.

    Args:
        outcome: The outcome of the plan.
        tool_cost: Cost of each tool of the plan, in units of R_q.

    Example:
        >>> env_reward(Outcome(restored=None, r_q=6.0, num_tools=2), tool_cost=0.25)
        5.5
    """
    return outcome.r_q - tool_cost * outcome.num_tools


def f1_score(predicted: frozenset[str], true: frozenset[str]) -> float:
    """Returns the F1 score of two sets; 1 if both are empty.

    Example:
        >>> f1_score(frozenset({"rain", "haze"}), frozenset({"rain"})), f1_score(frozenset(), frozenset())
        (0.6666666666666666, 1.0)
    """
    if not predicted and not true:
        return 1.0
    return 2 * len(predicted & true) / (len(predicted) + len(true))


def _mean_of_precision_and_recall(predicted: frozenset[str], true: frozenset[str]) -> float:
    if not predicted or not true:
        return float(predicted == true)
    correct = len(predicted & true)
    return (correct / len(predicted) + correct / len(true)) / 2


def combined_reward(
    outcome: Outcome,
    decision: Decision,
    labels: frozenset[str] | None = None,
    consistency: float | None = None,
    reward_form: Literal["product", "gated"] = "product",
    tool_cost: float = 0.0,
) -> float:
    """Returns the paper's reward for learners, which combines R_q with R_d, R_f and R_c.

    R_d scores the predicted degradations, R_f the format of the answer and R_c the consistency of the
    reasoning with the plan. The reward of environments, :func:`env_reward`, is R_q less the tool cost.

    Args:
        outcome: The outcome of the plan.
        decision: The decision of the agent. R_f is 0 if it has a parse error, else 1.
        labels: The true degradations; None if they are not known. R_d is 1 then, and where the decision
            makes no prediction.
        consistency: R_c in [0, 1]; None, for 1, if the reasoning is not judged.
        reward_form: "product" for the paper's R_q R_d R_f R_c; "gated" for the released code's
            R_f (R_d + [R_d > 0.8] R_q) R_c.
        tool_cost: Cost of each tool of the plan, subtracted from R_q.

    Returns:
        The reward. R_q less the tool cost is clipped at 0: with a negative factor, a higher R_d would lower
        the product.

    Source: section 4.2. R_d of the product is the F1 score; R_d of the released code is the mean of
        precision and recall.
    """
    if decision.error is not None:
        return 0.0
    r_c = 1.0 if consistency is None else consistency
    r_q = max(env_reward(outcome, tool_cost), 0.0)
    known = decision.degradations is not None and labels is not None
    if reward_form == "product":
        r_d = f1_score(decision.degradations, labels) if known else 1.0  # pyright: ignore[reportArgumentType]
        return r_q * r_d * r_c
    r_d = _mean_of_precision_and_recall(decision.degradations, labels) if known else 1.0  # pyright: ignore[reportArgumentType]
    return (r_d + (r_q if r_d > 0.8 else 0.0)) * r_c
