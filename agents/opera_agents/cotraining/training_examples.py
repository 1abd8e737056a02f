"""What tools are trained on: photographs under an agent's plans, and exercises against forgetting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from opera_agents.common.photographs import training_source
from opera_agents.common.plausible_plans import plausible_plan
from opera_agents.common.seeds import SeedStage, make_rng
from opera_agents.cotraining.config import CotrainingConfig
from opera_env.agents import run_agent
from opera_env.data.images import to_array, to_tensor
from opera_env.degradations import DEGRADATIONS, TRAINING_RECIPES, degrade
from opera_env.scoring import PlanScorer
from opera_env.tool_training.lite_tools import LITE_TOOLS
from opera_env.tools import Tool, Toolbox
from opera_env.types import Agent, Plan, Sample, Search


@dataclass(frozen=True)
class TrainingExample:
    """A photograph, and the plan to be learnt from.

    Attributes:
        sample: The photograph, with its reference.
        plan: Tool names; None leaves it to the agent.
        more: A tool to be put into the plan, and where, from 0 for first to 1 for last.
    """

    sample: Sample
    plan: Plan | None = None
    more: tuple[str, float] | None = None


class TrainingExampleSampler:
    """Draws lessons: a function of the seed and the step, alike in all processes.

    Many are damaged photographs that the agent plans for, some with a tool more. The others are
    exercises, without which a tool forgets: its own damage alone, at the strength that it was made for; and
    photographs that nothing is wrong with, which a tool that is used all the same is to leave as they are.

    Args:
        config: How many of which.
        toolbox: The tools.
    """

    def __init__(self, config: CotrainingConfig, toolbox: Toolbox) -> None:
        self.config, self.toolbox, self.names = config, toolbox, toolbox.names
        taught = toolbox.subset(config.only) if config.only else toolbox
        self.taught, self.trained = taught.names, [tool for tool in taught if tool.parameters]
        enlarged = config.out / "enlarged" if config.enlarged else None
        recipes = [(name,) for name in DEGRADATIONS] if config.control else TRAINING_RECIPES
        self.source = training_source(config.images, config.canvas, enlarged, 0.0, recipes, config.ratio)

    def draw(self, step: int) -> list[TrainingExample]:
        """Returns the lessons of a step."""
        rng = make_rng(self.config.seed, SeedStage.COTRAINING, step)
        return [self._one(rng) for _ in range(self.config.batch)]

    def _one(self, rng: Generator) -> TrainingExample:
        spec, chance = self.source.draw(rng), rng.random()
        if chance < self.config.idle + self.config.rehearsal:
            clean = self.source.make(replace(spec, recipe=()))
            if chance < self.config.idle:
                return TrainingExample(clean, random_short_plan(self.taught, rng))
            tool = self.trained[rng.integers(len(self.trained))]
            return TrainingExample(degrade_for_tool(tool, clean, rng), (tool.name,))
        sample = self.source.make(spec)
        if self.config.control:
            damage = sample.degradations or frozenset()
            plan = plausible_plan(self.toolbox, damage, rng, 1, shuffle_prob=0.0, tool_insertion_prob=0.0)
            return TrainingExample(sample, plan)
        if rng.random() < self.config.random:
            return TrainingExample(sample, random_short_plan(self.names, rng))
        more = (self.names[rng.integers(len(self.names))], rng.random())
        return TrainingExample(
            sample, more=more if rng.random() < self.config.tool_insertion_prob else None
        )


def degrade_for_tool(tool: Tool, clean: Sample, rng: Generator) -> Sample:
    """Does to a clean photograph what a tool is to undo.

    Args:
        tool: A tool of ``lite`` is given the strength that it was trained on; any other, one of its
            degradations as the benchmark draws it, or, if it is for none of them, nothing.
        clean: The photograph.
        rng: The only source of chance.

    Returns:
        A sample with the damaged image; its specification remains that of the clean one.
    """
    image = to_array(clean.lq)
    recipe = next((recipe for recipe in LITE_TOOLS if recipe.name == tool.name), None)
    if recipe is not None:
        dirty: NDArray[np.uint8] = recipe.degrade(image, rng)
        return replace(clean, lq=to_tensor(dirty), degradations=frozenset({recipe.degradation}))
    known = [name for name in DEGRADATIONS if name in tool.degradations]
    one = known[rng.integers(len(known))] if known else None
    dirty = image if one is None else degrade(image, (one,), rng)[0]
    return replace(clean, lq=to_tensor(dirty), degradations=frozenset({one} if one else ()))


def random_short_plan(names: Sequence[str], rng: Generator, longest: int = 3) -> Plan:
    """Draws one to ``longest`` tools, whatever is wrong."""
    chosen = rng.integers(len(names), size=rng.integers(1, longest + 1))
    return tuple(names[int(index)] for index in chosen)


def fill_in_plans(
    lessons: Sequence[TrainingExample], agent: Agent | Search, scorer: PlanScorer, max_tools: int
) -> list[Plan]:
    """Returns the plan of each lesson, the agent's where there is none yet.

    Args:
        lessons: What is to be learnt from.
        agent: Who plans.
        scorer: What a search may ask, and what a stepwise agent's tools run in.
        max_tools: Longest plan.
    """
    asked = [lesson.sample for lesson in lessons if lesson.plan is None]
    answers = iter(run_agent(agent, asked, scorer, max_tools).plans if asked else [])
    return [
        _insert_tool(next(answers) if lesson.plan is None else lesson.plan, lesson.more, max_tools)
        for lesson in lessons
    ]


def _insert_tool(plan: Plan, more: tuple[str, float] | None, max_tools: int) -> Plan:
    if more is None or len(plan) == max_tools:
        return plan
    place = round(more[1] * len(plan))
    return (*plan[:place], more[0], *plan[place:])
