"""Which plans tools are trained under: an agent's, a search's, random ones, or a mixture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from opera_agents.plausible import plausible_plan
from opera_env.play import play
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import Agent, Plan, Sample, Search


class PlanMixture:
    """Chooses a plan for each photograph.

    Args:
        agent: Who plans.
        scorer: What a search may ask, and what a stepwise agent's tools run in.
        random: Share of photographs with a random plan instead.
        max_tools: Longest plan.
        control: Choose one tool that suits the photograph's degradations instead of all that.
    """

    def __init__(
        self,
        agent: Agent | Search,
        scorer: PlanScorer,
        random: float,
        max_tools: int,
        control: bool = False,
    ) -> None:
        self.agent, self.scorer, self.random = agent, scorer, random
        self.max_tools, self.control = max_tools, control

    def choose(self, samples: Sequence[Sample], seeds: Sequence[Sequence[int]]) -> list[Plan]:
        """Returns one plan per sample: a function of the sample, the agent, the tools and the seed."""
        generators = [np.random.default_rng(seed) for seed in seeds]
        toolbox = self.scorer.toolbox
        if self.control:
            return [
                plausible_plan(toolbox, sample.degradations or frozenset(), rng, 1, surprise=0.0)
                for sample, rng in zip(samples, generators, strict=True)
            ]
        at_random = [rng.random() < self.random for rng in generators]
        asked = [sample for sample, chance in zip(samples, at_random, strict=True) if not chance]
        answers = iter(play(self.agent, asked, self.scorer, self.max_tools).plans if asked else [])
        return [
            short_plan(toolbox, rng) if chance else next(answers)
            for rng, chance in zip(generators, at_random, strict=True)
        ]


def short_plan(toolbox: Toolbox, rng: np.random.Generator, longest: int = 3) -> Plan:
    """Draws one to ``longest`` tools, whatever is wrong."""
    chosen = rng.integers(len(toolbox), size=rng.integers(1, longest + 1))
    return tuple(toolbox.names[index] for index in chosen)
