"""What tools are trained on: whose plans, and which exercises."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from opera_agents.cotraining.config import CotrainingConfig
from opera_agents.cotraining.training_examples import (
    TrainingExample,
    TrainingExampleSampler,
    degrade_for_tool,
    fill_in_plans,
    random_short_plan,
)
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import Decision, Observation, Sample

Configure = Callable[..., CotrainingConfig]


class Brightens:
    """Plans the same for everybody."""

    closed_loop = False

    def act(self, observations: Sequence[Observation]) -> list[Decision]:
        return [Decision(("tiny.brighten",) * 4) for _ in observations]


def drawn(config: CotrainingConfig, step: int = 0) -> list[TrainingExample]:
    return TrainingExampleSampler(config, Toolbox.load(config.toolbox)).draw(step)


def test_the_agent_plans_where_no_plan_is_given(toolbox: Toolbox, samples: list[Sample]) -> None:
    lessons = [
        TrainingExample(samples[0]),
        TrainingExample(samples[1], ("unet.denoise",)),
        TrainingExample(samples[2], ()),
    ]
    plans = fill_in_plans(lessons, Brightens(), PlanScorer(toolbox, "classic"), 4)
    assert plans == [("tiny.brighten",) * 4, ("unet.denoise",), ()]


def test_one_more_tool_is_put_into_a_plan(toolbox: Toolbox, samples: list[Sample]) -> None:
    lessons = [TrainingExample(samples[0], ("a", "b"), ("c", place)) for place in (0.0, 0.5, 1.0)]
    plans = fill_in_plans(lessons, Brightens(), PlanScorer(toolbox, "classic"), 3)
    assert plans == [("c", "a", "b"), ("a", "c", "b"), ("a", "b", "c")]
    assert fill_in_plans(lessons[:1], Brightens(), PlanScorer(toolbox, "classic"), 2) == [("a", "b")]


def test_the_agents_plans_are_surprised(configure: Configure) -> None:
    lessons = drawn(configure(batch=300, rehearsal=0.0, idle=0.0, tool_insertion_prob=0.3))
    assert np.mean([lesson.more is not None for lesson in lessons]) == pytest.approx(0.3, abs=0.08)


def test_lessons_are_a_function_of_seed_and_step(configure: Configure) -> None:
    config = configure(batch=8)
    first, again, later = drawn(config), drawn(config), drawn(config, step=1)
    for one, two in zip(first, again, strict=True):
        assert one.plan == two.plan and torch.equal(one.sample.lq, two.sample.lq)
    assert [one.sample.spec for one in first] != [one.sample.spec for one in later]


def test_shares_are_as_they_were_asked_for(configure: Configure) -> None:
    lessons = drawn(configure(batch=400, rehearsal=0.3, idle=0.2, random=0.5))
    kinds = Counter(
        "idle"
        if not lesson.sample.degradations
        else "agent"
        if lesson.plan is None
        else "exercise or random"
        for lesson in lessons
    )
    shares = {kind: count / len(lessons) for kind, count in kinds.items()}
    assert shares == pytest.approx({"idle": 0.2, "agent": 0.25, "exercise or random": 0.55}, abs=0.07)
    idle = [lesson for lesson in lessons if not lesson.sample.degradations]
    assert all(lesson.plan and torch.equal(lesson.sample.lq, _reference(lesson)) for lesson in idle)


def test_a_tool_rehearses_what_it_was_made_for(configure: Configure) -> None:
    config = configure(batch=60, rehearsal=1.0, idle=0.0)
    toolbox = Toolbox.load(config.toolbox)
    lessons = TrainingExampleSampler(config, toolbox).draw(0)
    assert {lesson.plan for lesson in lessons} == {(tool.name,) for tool in toolbox if tool.parameters}
    for lesson in lessons:
        assert lesson.plan is not None and lesson.sample.degradations
        assert lesson.sample.degradations <= toolbox[lesson.plan[0]].degradations


def test_a_denoiser_rehearses_noise_of_its_strength(samples: list[Sample]) -> None:
    lite = Toolbox.load("lite")
    grey = torch.full((3, 128, 128), 0.5)
    clean = Sample(grey, grey, frozenset(), (128, 128), samples[0].spec)
    noisy = degrade_for_tool(lite["unet.denoise_25"], clean, np.random.default_rng(0))
    assert (noisy.lq - grey).std().item() * 255 == pytest.approx(25, rel=0.03)
    small = degrade_for_tool(lite["unet.super_resolution"], clean, np.random.default_rng(0))
    assert small.lq.shape == (3, 32, 32) and small.canvas == (128, 128)


def test_the_control_has_one_suitable_tool_for_one_degradation(configure: Configure) -> None:
    config = configure(batch=40, control=True, rehearsal=0.0, idle=0.0)
    toolbox = Toolbox.load(config.toolbox)
    for lesson in TrainingExampleSampler(config, toolbox).draw(0):
        damage = lesson.sample.degradations or frozenset()
        assert len(damage) == 1 and lesson.plan is not None
        suited = [tool.name for tool in toolbox if damage <= tool.degradations]
        assert lesson.plan in {(name,) for name in suited} or (not suited and lesson.plan == ())


def test_short_plans_have_one_to_three_tools(toolbox: Toolbox) -> None:
    plans = [random_short_plan(toolbox.names, np.random.default_rng(seed)) for seed in range(200)]
    assert {len(plan) for plan in plans} == {1, 2, 3}
    assert {name for plan in plans for name in plan} == set(toolbox.names)


def _reference(lesson: TrainingExample) -> torch.Tensor:
    assert lesson.sample.reference is not None
    return lesson.sample.reference
