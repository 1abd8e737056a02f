"""The training examples of co-training: samples with the agent's plans, rehearsal, and misuse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from numpy.random import Generator

from opera_agents.common.folders import all_degradations
from opera_agents.common.photographs import training_source
from opera_agents.common.plausible_plans import plausible_plan
from opera_agents.common.seeds import SeedStage, make_rng
from opera_agents.cotraining.config import CotrainingConfig
from opera_env.agents import run_agent
from opera_env.data.images import to_array, to_tensor
from opera_env.degradations import (
    DEGRADATION_CLASSES,
    DegradationType,
    degrade,
    load_degradations,
)
from opera_env.scoring import PlanScorer
from opera_env.tool_training.patches import degrade_pair
from opera_env.tool_training.pools import training_spec
from opera_env.tools import Tool, Toolbox
from opera_env.types import Agent, Plan, Sample, Search


@dataclass(frozen=True)
class TrainingExample:
    """A sample and the plan under which the tools are trained on it.

    Attributes:
        sample: The sample, with its reference.
        plan: Names of tools; None if the agent is to predict the plan.
        inserted_tool: A tool to insert into the plan, and its position from 0, the beginning, to 1, the
            end; None inserts nothing.
    """

    sample: Sample
    plan: Plan | None = None
    inserted_tool: tuple[str, float] | None = None


class TrainingExampleSampler:
    """Draws the training examples of a step: a function of seed and step, the same in all processes.

    Most examples are degraded photographs for which the agent predicts the plan, some with an inserted
    tool. The others keep the tools from forgetting: in rehearsal, a tool alone removes the damage that
    it was trained on; in misuse, tools are applied to clean photographs, which they
    should leave unchanged.

    Args:
        config: The settings of the run.
        toolbox: The tools.
    """

    def __init__(self, config: CotrainingConfig, toolbox: Toolbox) -> None:
        self.config, self.toolbox, self.names = config, toolbox, toolbox.names
        trained = toolbox.subset(config.trainable_tools) if config.trainable_tools else toolbox
        self.trained_names = trained.names
        self.trained_tools = [tool for tool in trained if tool.parameters]
        custom_degradations = load_degradations(config.degradations)
        self.degradations = all_degradations(config.images, custom_degradations)
        self.source = training_source(
            config.images,
            config.canvas,
            config.out / "enlarged" if config.enlarged else None,
            clean_weight=0.0,
            recipes=[(name,) for name in self.degradations] if config.adapt_alone else None,
            degradation_count_weights=config.degradation_count_weights,
            degradations=custom_degradations,
            benchmark_fraction=config.benchmark_fraction,
        )

    def draw(self, step: int) -> list[TrainingExample]:
        """Returns the training examples of a step."""
        rng = make_rng(self.config.seed, SeedStage.COTRAINING, step)
        return [self._draw_one(rng) for _ in range(self.config.batch_size)]

    def _draw_one(self, rng: Generator) -> TrainingExample:
        config = self.config
        spec, uniform_draw = self.source.draw(rng), rng.random()
        if uniform_draw < config.misuse_prob + config.rehearsal_prob:
            clean = self.source.make(replace(spec, recipe=(), sha256=""))
            if uniform_draw < config.misuse_prob:
                return TrainingExample(clean, random_short_plan(self.trained_names, rng))
            tool = self.trained_tools[rng.integers(len(self.trained_tools))]
            degraded = degrade_for_tool(tool, clean, rng, self.degradations)
            return TrainingExample(degraded, (tool.name,))
        sample = self.source.make(spec)
        if config.adapt_alone:
            degradations = sample.degradations or frozenset()
            plan = plausible_plan(
                self.toolbox,
                degradations,
                rng,
                max_tools=1,
                shuffle_prob=0.0,
                tool_insertion_prob=0.0,
                labels=self.source.degradations,
            )
            return TrainingExample(sample, plan)
        if rng.random() < config.random_plan_prob:
            return TrainingExample(sample, random_short_plan(self.names, rng))
        inserted_tool = (self.names[rng.integers(len(self.names))], rng.random())
        is_inserted = rng.random() < config.tool_insertion_prob
        return TrainingExample(sample, inserted_tool=inserted_tool if is_inserted else None)


def degrade_for_tool(
    tool: Tool,
    clean: Sample,
    rng: Generator,
    degradations: Mapping[str, DegradationType] = DEGRADATION_CLASSES,
) -> Sample:
    """Applies to a clean photograph the degradation that a tool removes.

    Args:
        tool: A tool whose record of training names its pool gets the data that it was trained on. Any other
            tool gets one of its degradations as samples have it, or none if it is for none of them.
        clean: The clean sample.
        rng: Draws the degradation.
        degradations: The known degradations by name; the built-in ones by default.

    Returns:
        The sample with a degraded image; its specification is still that of the clean one.
    """
    image = to_array(clean.lq)
    tool_spec = training_spec(tool)
    if tool_spec is not None:
        degraded, reference = degrade_pair(tool_spec.degrade, image, rng)
        labels = frozenset[str]() if degraded is reference else frozenset({tool_spec.degradation})
        return replace(clean, lq=to_tensor(degraded), reference=to_tensor(reference), degradations=labels)
    matched_degradations = [name for name in degradations if name in tool.degradations]
    recipe = (
        (matched_degradations[rng.integers(len(matched_degradations))],) if matched_degradations else ()
    )
    degraded = degrade(image, recipe, rng, degradations=degradations)[0] if recipe else image
    return replace(clean, lq=to_tensor(degraded), degradations=frozenset(recipe))


def random_short_plan(names: Sequence[str], rng: Generator, max_tools: int = 3) -> Plan:
    """Draws a plan of one to ``max_tools`` random tools."""
    indices = rng.integers(len(names), size=rng.integers(1, max_tools + 1))
    return tuple(names[int(index)] for index in indices)


def fill_in_plans(
    examples: Sequence[TrainingExample], agent: Agent | Search, scorer: PlanScorer, max_tools: int
) -> list[Plan]:
    """Returns the plan of each training example; the agent predicts those that are absent.

    Args:
        examples: The training examples.
        agent: The agent or search that predicts plans.
        scorer: Scores the plans of a search, and runs the tools of a stepwise agent.
        max_tools: Maximum number of tools in a plan.
    """
    unplanned = [example.sample for example in examples if example.plan is None]
    predicted = iter(run_agent(agent, unplanned, scorer, max_tools).plans if unplanned else [])
    return [
        _insert_tool(
            next(predicted) if example.plan is None else example.plan, example.inserted_tool, max_tools
        )
        for example in examples
    ]


def _insert_tool(plan: Plan, inserted_tool: tuple[str, float] | None, max_tools: int) -> Plan:
    if inserted_tool is None or len(plan) == max_tools:
        return plan
    name, position = inserted_tool
    index = round(position * len(plan))
    return (*plan[:index], name, *plan[index:])
