"""Monte-Carlo tree search over plans: priors from the planner, values from the judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil, sqrt
from pathlib import Path

import torch
from torch import Tensor

from opera_agents.common.batches import observe_sample
from opera_agents.planner.agent import Planner
from opera_agents.planner.saved import SHIPPED, load_policy
from opera_env.plan import PlanCodec
from opera_env.search import PlanRewards, best_plan, plan_rewards
from opera_env.tools import Toolbox
from opera_env.types import Plan, Sample, Scorer

_EXPLORATION, _WIDENING, _WIDENING_EXPONENT = 1.0, 1.5, 0.5
"""Weight of the priors against the values; a node with n visits has up to 1.5 n^0.5 children."""


@dataclass
class _Node:
    """A plan in the tree.

    Attributes:
        priors: Probability of each next tool, the most probable first.
        visits: Number of simulations that came through this node, the one that made it included.
        total: Sum of the rewards of these simulations.
        children: Nodes of plans with one more tool, by that tool, in the order of their priors.
    """

    plan: Plan
    priors: dict[str, float]
    visits: int = 0
    total: float = 0.0
    children: dict[str, _Node] = field(default_factory=dict)

    @property
    def may_widen(self) -> bool:
        """Whether the node may have one more child."""
        most = ceil(_WIDENING * self.visits**_WIDENING_EXPONENT)
        return len(self.children) < min(most, len(self.priors))

    def select(self, low: float, high: float) -> _Node:
        """Returns the child of the largest value with its bonus; rewards lie in [low, high]."""

        def score(tool: str) -> float:
            child = self.children[tool]
            value = (child.total / child.visits - low) / max(high - low, 1e-9)
            return value + _EXPLORATION * self.priors[tool] * sqrt(self.visits) / (1 + child.visits)

        return self.children[max(self.children, key=score)]


class Mcts:
    """Grows a tree of plans; each new plan runs one tool and is judged.

    A simulation goes down by PUCT, adds the most probable tool that a node does not have yet, and adds the
    reward of the new plan to all nodes above. A node gets more children the more it is visited (progressive
    widening), as there are too many tools to try all of them everywhere. The best judged plan is returned.

    Kept from the literature: the tree policy, progressive widening, priors of a trained policy and values
    of a judge in the place of random rollouts, as in AlphaZero. Left out: learning from the search.

    Args:
        toolbox: The tools.
        max_tools: Maximum number of tools in a plan.
        tool_cost: Cost of each tool, subtracted from R_q.
        budget: Number of plans that are judged, and so of tools that run; None for 64.
        path: Folder of the planner that gives the priors, or the name of the toolbox that a shipped one was
            trained for; "uniform" for equal priors, which need no planner.

    Raises:
        ToolboxMismatchError: If the planner was trained for other tools.

    Source: Silver et al., Mastering Chess and Shogi by Self-Play with a General Reinforcement Learning
        Algorithm, 2017; Coulom, Computing Elo Ratings of Move Patterns in the Game of Go, 2007.
    """

    def __init__(
        self,
        toolbox: Toolbox,
        max_tools: int = 6,
        tool_cost: float = 0.0,
        budget: int | None = None,
        path: Path | str = SHIPPED,
    ) -> None:
        self.max_tools, self.tool_cost, self.budget = max_tools, tool_cost, budget or 64
        self._names = toolbox.names
        self._planner: Planner | None = None
        if str(path) != "uniform":
            policy, card = load_policy(path)
            card.check(toolbox)
            self._planner = Planner(policy.to(toolbox.device), card)

    def count_plans(self, num_tools: int) -> int:
        """Returns the most plans that are scored for each sample, whatever the number of tools."""
        return 1 + self.budget

    def search(self, samples: Sequence[Sample], scorer: Scorer) -> list[Plan]:
        return [self._search_one(sample, scorer) for sample in samples]

    def _search_one(self, sample: Sample, scorer: Scorer) -> Plan:
        features = None
        if self._planner is not None:
            features = self._planner.encode([observe_sample(sample, self.max_tools)])
        root = _Node((), self._priors((), features))
        rewards: PlanRewards = {}
        self._visit([root], sample, scorer, rewards)
        for _ in range(4 * self.budget):  # a simulation may end at a plan that is known
            if len(rewards) > self.budget:
                break
            path = [root]
            while not path[-1].may_widen and path[-1].children:
                path.append(path[-1].select(min(rewards.values()), max(rewards.values())))
            node = path[-1]
            if node.may_widen:
                tool = list(node.priors)[len(node.children)]
                plan = (*node.plan, tool)
                node.children[tool] = _Node(plan, self._priors(plan, features))
                path.append(node.children[tool])
            self._visit(path, sample, scorer, rewards)
        return best_plan(rewards)

    def _visit(self, path: Sequence[_Node], sample: Sample, scorer: Scorer, rewards: PlanRewards) -> None:
        """Judges the plan at the end of a path, unless it is known, and adds its reward to the path."""
        plan = path[-1].plan
        if plan not in rewards:
            (rewards[plan],) = plan_rewards([sample], [plan], scorer, self.tool_cost)
        for node in path:
            node.visits += 1
            node.total += rewards[plan]

    @torch.inference_mode()
    def _priors(self, plan: Plan, features: Tensor | None) -> dict[str, float]:
        """Returns the probability of each tool after a plan, the most probable first; none at the limit."""
        if len(plan) >= self.max_tools:
            return {}
        uniform = dict.fromkeys(self._names, 1 / len(self._names))
        if self._planner is None or features is None or len(plan) >= self._planner.policy.max_tools:
            return uniform
        codec = PlanCodec(self._names, max(len(plan), 1))
        tokens = torch.as_tensor(codec.encode(plan)[: len(plan)], device=features.device)[None]
        logits = self._planner.policy.tool_logits(features, tokens)[0, -1, 1:]
        probabilities = dict(zip(self._names, logits.softmax(-1).tolist(), strict=True))
        return dict(sorted(probabilities.items(), key=lambda item: -item[1]))
