"""Training examples: the agent's plans, inserted tools, rehearsal, misuse, and the control."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

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
from opera_env.degradations import load_degradations, merge_degradations
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import Decision, Observation, Sample

Configure = Callable[..., CotrainingConfig]


class AlwaysBrighten:
    """An agent with the same plan for every image."""

    closed_loop = False

    def act(self, observations: Sequence[Observation]) -> list[Decision]:
        return [Decision(("tiny.brighten",) * 4) for _ in observations]


def draw_examples(config: CotrainingConfig, step: int = 0) -> list[TrainingExample]:
    return TrainingExampleSampler(config, Toolbox.load(config.toolbox)).draw(step)


def test_agent_predicts_absent_plans(toolbox: Toolbox, samples: list[Sample]) -> None:
    examples = [
        TrainingExample(samples[0]),
        TrainingExample(samples[1], ("unet.denoise",)),
        TrainingExample(samples[2], ()),
    ]
    plans = fill_in_plans(examples, AlwaysBrighten(), PlanScorer(toolbox, "classic"), 4)
    assert plans == [("tiny.brighten",) * 4, ("unet.denoise",), ()]


def test_tool_is_inserted_at_its_position_unless_the_plan_is_full(
    toolbox: Toolbox, samples: list[Sample]
) -> None:
    examples = [TrainingExample(samples[0], ("a", "b"), ("c", position)) for position in (0.0, 0.5, 1.0)]
    plans = fill_in_plans(examples, AlwaysBrighten(), PlanScorer(toolbox, "classic"), 3)
    assert plans == [("c", "a", "b"), ("a", "c", "b"), ("a", "b", "c")]
    assert fill_in_plans(examples[:1], AlwaysBrighten(), PlanScorer(toolbox, "classic"), 2) == [("a", "b")]


def test_tools_are_inserted_into_the_configured_share_of_plans(configure: Configure) -> None:
    examples = draw_examples(
        configure(batch_size=300, rehearsal_prob=0.0, misuse_prob=0.0, tool_insertion_prob=0.3)
    )
    assert np.mean([example.inserted_tool is not None for example in examples]) == pytest.approx(
        0.3, abs=0.08
    )


def test_examples_are_a_function_of_seed_and_step(configure: Configure) -> None:
    config = configure(batch_size=8)
    first, again, later = draw_examples(config), draw_examples(config), draw_examples(config, step=1)
    for example, repeated in zip(first, again, strict=True):
        assert example.plan == repeated.plan and torch.equal(example.sample.lq, repeated.sample.lq)
    assert [example.sample.spec for example in first] != [example.sample.spec for example in later]


def test_shares_are_those_of_the_settings(configure: Configure) -> None:
    examples = draw_examples(
        configure(batch_size=400, rehearsal_prob=0.3, misuse_prob=0.2, random_plan_prob=0.5)
    )
    kinds = Counter(
        "misuse"
        if not example.sample.degradations
        else "agent"
        if example.plan is None
        else "rehearsal or random"
        for example in examples
    )
    shares = {kind: count / len(examples) for kind, count in kinds.items()}
    assert shares == pytest.approx({"misuse": 0.2, "agent": 0.25, "rehearsal or random": 0.55}, abs=0.07)
    misuse = [example for example in examples if not example.sample.degradations]
    assert all(example.plan and torch.equal(example.sample.lq, _reference(example)) for example in misuse)


def test_rehearsal_uses_a_tools_own_degradation(configure: Configure) -> None:
    config = configure(batch_size=60, rehearsal_prob=1.0, misuse_prob=0.0)
    toolbox = Toolbox.load(config.toolbox)
    examples = TrainingExampleSampler(config, toolbox).draw(0)
    assert {example.plan for example in examples} == {(tool.name,) for tool in toolbox if tool.parameters}
    for example in examples:
        assert example.plan is not None and example.sample.degradations
        assert example.sample.degradations <= toolbox[example.plan[0]].degradations


def test_rehearsal_of_a_denoiser_has_noise_of_its_strength(samples: list[Sample]) -> None:
    lite = Toolbox.load("lite")
    grey = torch.full((3, 128, 128), 0.5)
    clean = Sample(grey, grey, frozenset(), (128, 128), samples[0].spec)
    noisy = degrade_for_tool(lite["unet.denoise_25"], clean, np.random.default_rng(0))
    assert (noisy.lq - grey).std().item() * 255 == pytest.approx(25, rel=0.03)
    small = degrade_for_tool(lite["unet.super_resolution"], clean, np.random.default_rng(0))
    assert small.lq.shape == (3, 32, 32) and small.canvas == (128, 128)


def test_own_degradations_are_rehearsed_and_mixed(
    configure: Configure, small_toolbox: Path, samples: list[Sample]
) -> None:
    custom_degradations = "tests.degradations.own:OWN_DEGRADATIONS"
    examples = draw_examples(
        configure(degradations=custom_degradations, batch_size=80, rehearsal_prob=0.0, misuse_prob=0.0)
    )
    labels = {name for example in examples for name in example.sample.degradations or ()}
    assert {"vignette", "salt_and_pepper"} < labels
    tool = Toolbox.load(small_toolbox)["unet.denoise"]
    tool = replace(tool, name="unet.despeckle", degradations=frozenset({"salt_and_pepper"}))
    known = merge_degradations(load_degradations(custom_degradations))
    speckled = degrade_for_tool(tool, samples[0], np.random.default_rng(0), known)
    assert speckled.degradations == {"salt_and_pepper"}
    assert not torch.equal(speckled.lq, samples[0].lq)
    assert degrade_for_tool(tool, samples[0], np.random.default_rng(0)).degradations == frozenset()


def test_adapting_alone_trains_tools_for_own_degradations(
    configure: Configure, small_toolbox: Path, tmp_path: Path
) -> None:
    toolbox = Toolbox.load(small_toolbox).subset(["unet.denoise"])
    tool = replace(
        toolbox["unet.denoise"], name="unet.despeckle", degradations=frozenset({"salt_and_pepper"})
    )
    Toolbox([tool]).save(tmp_path / "own")
    config = configure(
        toolbox=str(tmp_path / "own"),
        degradations="tests.degradations.own:OWN_DEGRADATIONS",
        batch_size=40,
        adapt_alone=True,
        rehearsal_prob=0.0,
        misuse_prob=0.0,
    )
    plans = {example.sample.degradations: example.plan for example in draw_examples(config)}
    assert plans[frozenset({"salt_and_pepper"})] == ("unet.despeckle",)
    assert plans[frozenset({"vignette"})] == ()


def test_adapting_alone_uses_one_matched_tool_for_one_degradation(configure: Configure) -> None:
    config = configure(batch_size=40, adapt_alone=True, rehearsal_prob=0.0, misuse_prob=0.0)
    toolbox = Toolbox.load(config.toolbox)
    for example in TrainingExampleSampler(config, toolbox).draw(0):
        degradations = example.sample.degradations or frozenset()
        assert len(degradations) == 1 and example.plan is not None
        matched = [tool.name for tool in toolbox if degradations <= tool.degradations]
        assert example.plan in {(name,) for name in matched} or (not matched and example.plan == ())


def test_short_plans_have_one_to_three_tools(toolbox: Toolbox) -> None:
    plans = [random_short_plan(toolbox.names, np.random.default_rng(seed)) for seed in range(200)]
    assert {len(plan) for plan in plans} == {1, 2, 3}
    assert {name for plan in plans for name in plan} == set(toolbox.names)


def _reference(example: TrainingExample) -> torch.Tensor:
    assert example.sample.reference is not None
    return example.sample.reference
