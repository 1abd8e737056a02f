"""The planner as an agent that predicts one plan, and as a search that scores several sampled plans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from opera_agents.common.batches import observe_sample
from opera_agents.planner.policy import PlanPolicy, SampledPlans
from opera_agents.planner.saved import SHIPPED, PolicyCard, load_policy, save_policy
from opera_env.encoder import WindowedEncoder, encode_by_size
from opera_env.errors import BudgetSpentError
from opera_env.hub import HubMixin, pretrained_folder
from opera_env.plan import PlanCodec
from opera_env.search import PlanRewards, best_plan, plan_rewards
from opera_env.seeding import content_seed
from opera_env.tools import Toolbox
from opera_env.types import Agent, Decision, Observation, Plan, Sample, Scorer, Search


def make_planner(
    toolbox: Toolbox,
    max_tools: int = 6,
    seed: int = 0,
    tool_cost: float = 0.0,
    num_plans: int = 1,
    path: Path | str = SHIPPED,
) -> Agent | Search:
    """Makes the agent ``planner``.

    Args:
        toolbox: The tools; the policy must have been trained for them.
        max_tools: Maximum number of tools in a plan.
        seed: Seed of the sampled plans, if there are several.
        tool_cost: Subtracted from the score for each tool, if there are several plans to choose from.
        num_plans: 1 returns the most probable plan. More samples as many, runs them and returns the one
            with the highest score: that of a critic where there is no reference, else R_q itself.
        path: Folder of a trained policy, or the name of the toolbox that a shipped policy was trained for,
            such as ``lite-cotrained``; by default the one for ``lite``.

    Raises:
        ToolboxMismatchError: If the policy was trained for other tools.
    """
    policy, card = load_policy(path)
    card.check(toolbox)
    policy.to(toolbox.device)
    planner = Planner(policy, card, max_tools)
    return planner if num_plans <= 1 else BestOfN(planner, num_plans, seed, tool_cost)


class Planner(HubMixin):
    """An agent that predicts the most probable plan for each image, or samples one.

    Args:
        policy: The trained policy.
        card: What the policy was trained for.
        max_tools: Maximum number of tools in a plan; longer plans are cut.
        seed: Seed of sampled plans and labels, which are then a function of the seed and of the image; None
            predicts the most probable ones instead.

    Attributes:
        degradations: The labels that the planner predicts.
        sees_photographs: Whether it sees a photograph of any size at the cost of a window.
    """

    closed_loop = False

    def __init__(
        self, policy: PlanPolicy, card: PolicyCard, max_tools: int = 6, seed: int | None = None
    ) -> None:
        self.policy, self.card, self.max_tools, self.seed = policy, card, max_tools, seed
        self.degradations = card.degradations
        self.sees_photographs = isinstance(policy.detector.encoder, WindowedEncoder)

    @classmethod
    def from_pretrained(
        cls,
        name_or_folder: Path | str,
        max_tools: int = 6,
        *,
        revision: str | None = None,
        endpoint: str | None = None,
    ) -> Planner:
        """Loads a planner from the Hugging Face hub, or from what ``load_policy`` takes.

        Args:
            name_or_folder: A repository, ``owner/name``, or a folder; a folder takes precedence.
            max_tools: Maximum number of tools in a plan.
            revision: Branch, tag or commit of the repository.
            endpoint: Address of the hub.

        Raises:
            HubError: If there is no such repository, or it holds something else.
            MissingWeightsError: If a file of the folder is absent.
        """
        return cls(*load_policy(pretrained_folder(name_or_folder, revision, endpoint)), max_tools)

    def save_pretrained(self, folder: Path) -> None:
        save_policy(self.policy, self.card, folder)

    def act(self, observations: Sequence[Observation]) -> list[Decision]:
        if not observations:
            return []
        features = self.encode(observations)
        if self.seed is None:
            return self.decode(self.policy.predict(features), self.probabilities(features))
        decisions: list[Decision] = []
        for observation, row in zip(observations, features.split(1), strict=True):
            generator = torch.Generator().manual_seed(content_seed(self.seed, observation.image))
            decisions += self.decode(self.policy.sample(row, generator), self.probabilities(row))
        return decisions

    @torch.inference_mode()
    def encode(self, observations: Sequence[Observation]) -> Tensor:
        """Encodes the images of observations, whose sizes may differ, as features (B, F)."""
        images = [observation.image for observation in observations]
        return encode_by_size(self.policy.encode, images, self.policy.position.device)

    @torch.inference_mode()
    def probabilities(self, features: Tensor) -> list[dict[str, float]]:
        """Returns the probability of each degradation for images with ``features`` (B, F)."""
        rows = self.policy.label_logits(features).sigmoid().tolist()
        return [dict(zip(self.card.degradations, row, strict=True)) for row in rows]

    def decode(
        self, sampled_plans: SampledPlans, probabilities: Sequence[Mapping[str, float]] | None = None
    ) -> list[Decision]:
        """Translates labels and tokens to names of degradations and tools.

        Args:
            sampled_plans: Decisions as tensors.
            probabilities: Probability of each degradation, one mapping per decision; None leaves it out.
        """
        codec = PlanCodec(self.card.tools, self.policy.max_tools)
        rows = zip(sampled_plans.tokens.cpu(), sampled_plans.labels.cpu(), strict=True)
        return [
            Decision(
                plan=codec.decode(tokens.numpy())[: self.max_tools],
                degradations=frozenset(
                    name
                    for name, present in zip(self.card.degradations, labels.tolist(), strict=True)
                    if present
                ),
                probabilities=None if probabilities is None else probabilities[row],
            )
            for row, (tokens, labels) in enumerate(rows)
        ]


class BestOfN:
    """A search that samples several plans, runs them, and keeps the plan with the highest score.

    The most probable plan and the empty one are always among the candidates. The plans that are sampled for
    an image depend on the seed and the image alone, not on the other images of a batch.

    Args:
        planner: The agent whose policy samples the plans.
        num_plans: Number of plans, the most probable one included.
        seed: Seed of the sampled plans, together with the image.
        tool_cost: Subtracted from the score for each tool.
    """

    def __init__(self, planner: Planner, num_plans: int, seed: int = 0, tool_cost: float = 0.0) -> None:
        self.planner, self.num_plans, self.tool_cost = planner, num_plans, tool_cost
        self.seed = seed
        self.sees_photographs = planner.sees_photographs

    def count_plans(self, num_tools: int) -> int:
        """Returns the most plans that are scored for each sample, whatever the number of tools."""
        return 1 + self.num_plans

    def search(self, samples: Sequence[Sample], scorer: Scorer) -> list[Plan]:
        return [decision.plan for decision in self.decide(samples, scorer)]

    def decide(self, samples: Sequence[Sample], scorer: Scorer) -> list[Decision]:
        """Returns the best plan of each sample, with the degradations that the planner predicts."""
        observations = [observe_sample(sample, self.planner.max_tools) for sample in samples]
        predicted = self.planner.act(observations)
        candidates = [
            list(dict.fromkeys([decision.plan, (), *self._sample(observation)]))
            for decision, observation in zip(predicted, observations, strict=True)
        ]
        pairs = [
            (sample, plan) for sample, plans in zip(samples, candidates, strict=True) for plan in plans
        ]
        try:
            rewards = iter(
                plan_rewards(
                    [sample for sample, _ in pairs], [plan for _, plan in pairs], scorer, self.tool_cost
                )
            )
        except BudgetSpentError:
            return self._within_budget(samples, candidates, predicted, scorer)
        return [
            replace(decision, plan=best_plan({plan: next(rewards) for plan in plans}))
            for decision, plans in zip(predicted, candidates, strict=True)
        ]

    def _within_budget(
        self,
        samples: Sequence[Sample],
        candidates: Sequence[Sequence[Plan]],
        predicted: Sequence[Decision],
        scorer: Scorer,
    ) -> list[Decision]:
        """Returns the best of the plans that the budget allows; the most probable if it allows none."""
        decisions: list[Decision] = []
        for sample, plans, decision in zip(samples, candidates, predicted, strict=True):
            rewards: PlanRewards = {}
            with suppress(BudgetSpentError):
                for plan in plans:
                    rewards[plan] = plan_rewards([sample], [plan], scorer, self.tool_cost)[0]
            known = decision.plan in rewards
            decisions.append(replace(decision, plan=best_plan(rewards)) if known else decision)
        return decisions

    def _sample(self, observation: Observation) -> list[Plan]:
        """Samples plans for one image."""
        generator = torch.Generator().manual_seed(content_seed(self.seed, observation.image))
        features = self.planner.encode([observation]).repeat_interleave(self.num_plans - 1, 0)
        sampled_plans = self.planner.policy.sample(features, generator)
        return [decision.plan for decision in self.planner.decode(sampled_plans)]
