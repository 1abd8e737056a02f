"""The stepwise environment, played by hand; the planner plays the same image."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from opera_env.agents import make_agent, run_agent
from opera_env.data import bundled
from opera_env.degradations import benchmark_recipes
from opera_env.demo.contest import default_reward
from opera_env.errors import SettingError
from opera_env.evaluation.planning_factors import matched_orders
from opera_env.evaluation.study import matched_tools
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import Outcome, Plan, Sample


@dataclass(frozen=True, eq=False)
class Position:
    """Where a game stands.

    Attributes:
        sample: The degraded image; its labels and its reference are shown at the end.
        plan: The tools so far.
        images: The input and the image after each tool, float32 (3, H, W) in [0, 1].
        scores: R_q of each of the images.
    """

    sample: Sample
    plan: Plan
    images: tuple[Tensor, ...]
    scores: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Ending:
    """The end of a game.

    Attributes:
        regret: R_q of the best plan that was tried for comparison, or of the game itself if that is better,
            minus R_q of the game.
        best_plan: That plan.
        planner_plan: The plan of the planner.
        planner_score: Its R_q.
        planner_image: Its result.
    """

    regret: float
    best_plan: Plan
    planner_plan: Plan
    planner_score: float
    planner_image: Tensor


class Game:
    """Makes samples and applies tools to them.

    Args:
        toolbox: The tools.
        max_tools: Maximum number of tools in a plan.
    """

    def __init__(self, toolbox: Toolbox, max_tools: int = 6) -> None:
        self.toolbox, self.max_tools = toolbox, max_tools
        self._scorer = PlanScorer(toolbox, default_reward())
        self._source = bundled(recipes=benchmark_recipes())
        self._planner = make_agent("planner", toolbox=toolbox, max_tools=max_tools)

    def start(self, seed: int) -> Position:
        """Draws a photograph and a recipe of the benchmark."""
        sample = self._source.make(self._source.draw(np.random.default_rng(seed)))
        (outcome,) = self._scorer.score([sample], [()])
        return Position(sample, (), (outcome.image(),), (outcome.r_q,))

    def play(self, position: Position, tool: str) -> Position:
        """Applies a tool.

        Raises:
            SettingError: If the plan is as long as it may be.
            UnknownToolError: If there is no such tool.
        """
        if len(position.plan) >= self.max_tools:
            raise SettingError("tool", tool, f"at most {self.max_tools} tools: undo one, or finish")
        plan = (*position.plan, self.toolbox[tool].name)
        (outcome,) = self._scorer.score([position.sample], [plan])
        images, scores = (*position.images, outcome.image()), (*position.scores, outcome.r_q)
        return replace(position, plan=plan, images=images, scores=scores)

    def undo(self, position: Position) -> Position:
        """Takes the last tool back; without one, the position stays."""
        if not position.plan:
            return position
        return replace(
            position, plan=position.plan[:-1], images=position.images[:-1], scores=position.scores[:-1]
        )

    def finish(self, position: Position) -> Ending:
        """Compares the game with the planner, all single tools and all orders of the matched tools."""
        sample = position.sample
        run = run_agent(self._planner, [sample.blind()], self._scorer, self.max_tools)
        (planned,) = run.plans
        matched = tuple(dict.fromkeys(matched_tools(self.toolbox, [sample]).values()))
        singles = [(name,) for name in self.toolbox.names]
        orders = [plan[: self.max_tools] for plan in matched_orders(matched)]
        plans = list(dict.fromkeys([planned, (), *singles, *orders, position.plan]))
        outcomes: dict[Plan, Outcome] = dict(
            zip(plans, self._scorer.score([sample] * len(plans), plans), strict=True)
        )
        best = max(plans, key=lambda plan: outcomes[plan].r_q)
        return Ending(
            regret=outcomes[best].r_q - outcomes[position.plan].r_q,
            best_plan=best,
            planner_plan=planned,
            planner_score=outcomes[planned].r_q,
            planner_image=outcomes[planned].image(),
        )
