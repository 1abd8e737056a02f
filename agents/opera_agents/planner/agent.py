"""The planner as an agent: one look, one plan; or several plans, run, of which a critic keeps the best."""

from __future__ import annotations

from collections.abc import Sequence
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
    samples: int = 1,
    path: Path | str = SHIPPED,
) -> Agent | Search:
    """Makes the agent ``planner``.

    Args:
        toolbox: The tools it was trained for.
        max_tools: Longest plan.
        seed: Of the draws, where there are several samples.
        tool_cost: What a tool must earn, where there are several samples to choose from.
        samples: 1 writes the most likely plan. More draws as many, runs them and keeps the best in the eyes
            of the scorer: of a critic if it plays blind, else of the very reward.
        path: Folder of a trained policy, or the toolbox that a shipped one is for: ``lite-cotrained``; by
            default the one for ``lite``.

    Raises:
        ToolboxMismatchError: If it was trained for other tools.
    """
    policy, card = load_policy(path)
    card.check(toolbox)
    policy.to(toolbox.device)
    planner = Planner(policy, card, max_tools)
    return planner if samples <= 1 else BestOfN(planner, samples, seed, tool_cost)


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
        return self.read(self.policy.most_likely(self.encode(observations)))

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

    def read(self, draft: SampledPlans) -> list[Decision]:
        """Puts numbers into words."""
        codec = PlanCodec(self.card.tools, self.policy.max_tools)
        return [
            Decision(
                plan=codec.decode(tokens.numpy())[: self.max_tools],
                degradations=frozenset(
                    name
                    for name, there in zip(self.card.degradations, labels.tolist(), strict=True)
                    if there
                ),
            )
            for tokens, labels in zip(draft.tokens.cpu(), draft.labels.cpu(), strict=True)
        ]


class BestOfN:
    """Draws several plans, runs them with shared beginnings, and keeps the best.

    The most likely plan and the empty one are always among them.

    Args:
        planner: Who draws.
        samples: How many plans, the most likely one included.
        seed: Of the draws.
        tool_cost: What a tool must earn.
    """

    def __init__(self, planner: Planner, samples: int, seed: int = 0, tool_cost: float = 0.0) -> None:
        self.planner, self.samples, self.tool_cost = planner, samples, tool_cost
        self._generator = torch.Generator().manual_seed(seed)

    def search(self, samples: Sequence[Sample], scorer: Scorer) -> list[Plan]:
        seen = self.planner.encode([observe(Episode(sample), self.planner.max_tools) for sample in samples])
        drawn = self.planner.policy.sample(seen.repeat_interleave(self.samples - 1, 0), self._generator)
        likely = [decision.plan for decision in self.planner.read(self.planner.policy.most_likely(seen))]
        others = iter(self.planner.read(drawn))
        candidates = [
            list(dict.fromkeys([plan, (), *(next(others).plan for _ in range(self.samples - 1))]))
            for plan in likely
        ]
        asked = [
            (sample, plan) for sample, plans in zip(samples, candidates, strict=True) for plan in plans
        ]
        scores = iter(
            plan_rewards(
                [sample for sample, _ in asked], [plan for _, plan in asked], scorer, self.tool_cost
            )
        )
        return [best_plan({plan: next(scores) for plan in plans}) for plans in candidates]
