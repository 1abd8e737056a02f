"""The planner as an agent: one look, one plan; or several plans, run, of which a critic keeps the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from opera_agents.planner.policy import PlanPolicy, SampledPlans
from opera_agents.planner.saved import SHIPPED, PolicyCard, load_policy
from opera_env.envs.observation import Episode, observe
from opera_env.plan import PlanCodec
from opera_env.search import best_plan, plan_rewards
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
        toolbox: The tools it was trained for.
        max_tools: Longest plan.
        seed: Of the draws, where there are several plans.
        tool_cost: What a tool must earn, where there are several plans to choose from.
        num_plans: 1 writes the most likely plan. More draws as many, runs them and keeps the one with the
            highest score: of a critic where there is no reference, else of the reward itself.
        path: Folder of a trained policy, or the toolbox that a shipped one is for: ``lite-cotrained``; by
            default the one for ``lite``.

    Raises:
        ToolboxMismatchError: If it was trained for other tools.
    """
    policy, card = load_policy(path)
    card.check(toolbox)
    policy.to(toolbox.device)
    planner = Planner(policy, card, max_tools)
    return planner if num_plans <= 1 else BestOfN(planner, num_plans, seed, tool_cost)


class Planner:
    """Writes the most likely plan for each image.

    Args:
        policy: The trained policy.
        card: What it was trained for.
        max_tools: Longest plan; what is longer is cut.
    """

    closed_loop = False

    def __init__(self, policy: PlanPolicy, card: PolicyCard, max_tools: int = 6) -> None:
        self.policy, self.card, self.max_tools = policy, card, max_tools

    def act(self, observations: Sequence[Observation]) -> list[Decision]:
        if not observations:
            return []
        features = self.encode(observations)
        return self.read(self.policy.most_likely(features), self.probabilities(features))

    @torch.inference_mode()
    def probabilities(self, features: Tensor) -> list[dict[str, float]]:
        """Returns the probability of each degradation for images encoded as ``features`` (B, features)."""
        rows = self.policy.label_logits(features).sigmoid().tolist()
        return [dict(zip(self.card.degradations, row, strict=True)) for row in rows]

    @torch.inference_mode()
    def encode(self, observations: Sequence[Observation]) -> Tensor:
        """Describes images, those of one size together, (B, features)."""
        by_size: dict[torch.Size, list[int]] = {}
        for index, observation in enumerate(observations):
            by_size.setdefault(observation.image.shape, []).append(index)
        device = self.policy.position.device
        rows: dict[int, Tensor] = {}
        for indices in by_size.values():
            images = torch.stack([observations[index].image for index in indices]).to(device)
            rows.update(zip(indices, self.policy.encode(images), strict=True))
        return torch.stack([rows[index] for index in range(len(observations))])

    def read(
        self, draft: SampledPlans, probabilities: Sequence[Mapping[str, float]] | None = None
    ) -> list[Decision]:
        """Translates labels and tokens to names.

        Args:
            draft: Labels and plans as numbers.
            probabilities: Probability of each degradation, one mapping per plan; None leaves it out.
        """
        codec = PlanCodec(self.card.tools, self.policy.max_tools)
        return [
            Decision(
                plan=codec.decode(tokens.numpy())[: self.max_tools],
                degradations=frozenset(
                    name
                    for name, there in zip(self.card.degradations, labels.tolist(), strict=True)
                    if there
                ),
                probabilities=None if probabilities is None else probabilities[row],
            )
            for row, (tokens, labels) in enumerate(zip(draft.tokens.cpu(), draft.labels.cpu(), strict=True))
        ]


class BestOfN:
    """Draws several plans, runs them with shared beginnings, and keeps the best.

    The most likely plan and the empty one are always among them.

    Args:
        planner: Who draws.
        num_plans: How many plans, the most likely one included.
        seed: Of the draws.
        tool_cost: What a tool must earn.
    """

    def __init__(self, planner: Planner, num_plans: int, seed: int = 0, tool_cost: float = 0.0) -> None:
        self.planner, self.num_plans, self.tool_cost = planner, num_plans, tool_cost
        self._generator = torch.Generator().manual_seed(seed)

    def search(self, samples: Sequence[Sample], scorer: Scorer) -> list[Plan]:
        return [decision.plan for decision in self.decide(samples, scorer)]

    def decide(self, samples: Sequence[Sample], scorer: Scorer) -> list[Decision]:
        """Returns the best plan of each sample with the degradations that the planner predicts."""
        seen = self.planner.encode([observe(Episode(sample), self.planner.max_tools) for sample in samples])
        drawn = self.planner.policy.sample(seen.repeat_interleave(self.num_plans - 1, 0), self._generator)
        likely = self.planner.read(self.planner.policy.most_likely(seen), self.planner.probabilities(seen))
        others = iter(self.planner.read(drawn))
        candidates = [
            list(
                dict.fromkeys([decision.plan, (), *(next(others).plan for _ in range(self.num_plans - 1))])
            )
            for decision in likely
        ]
        asked = [
            (sample, plan) for sample, plans in zip(samples, candidates, strict=True) for plan in plans
        ]
        scores = iter(
            plan_rewards(
                [sample for sample, _ in asked], [plan for _, plan in asked], scorer, self.tool_cost
            )
        )
        return [
            replace(decision, plan=best_plan({plan: next(scores) for plan in plans}))
            for decision, plans in zip(likely, candidates, strict=True)
        ]
