"""``VLMStepwiseAgent`` and ``VLMFunctionAgent``: actions, second attempts; the shipped model plans anew."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from opera_agents.vlm.agent import VLMAgent
from opera_agents.vlm.prompt import USER_PROMPT, build_turn_system_prompt
from opera_agents.vlm.saved import save_card, save_processor
from opera_agents.vlm.stepwise import (
    VLMFunctionAgent,
    VLMStepwiseAgent,
    earlier_observations,
    make_vlm_stepwise,
)
from opera_agents.vlm.tiny import tiny_model, tiny_processor
from opera_env.agents import run_agent
from opera_env.errors import AgentError, PlanParseError
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import Sample
from tests.agents.vlm.calling import PROMPT, ScriptedCalls, call, calling_processor

TURNS = (
    "<think>Dark.</think><degradation>['low_light']</degradation><apply>['tiny.brighten']</apply>",
    "<think>Too bright.</think><undo>1</undo><apply>['tiny.blur']</apply>",
    "<think>Good.</think><answer>['tiny.identity']</answer>",
)


class Scripted(VLMStepwiseAgent):
    """Its model is a list of texts; what it was asked is kept."""

    def __init__(self, toolbox: Toolbox, *texts: str) -> None:
        prompt = build_turn_system_prompt(toolbox)
        super().__init__(toolbox, None, tiny_processor(toolbox, [prompt]), prompt)
        self.texts, self.asked = list(texts), list[tuple[str, int, int | None]]()

    def complete(
        self, prompts: Sequence[str], images: Sequence[Sequence[Image.Image]], seed: int | None = None
    ) -> list[str]:
        self.asked += [(prompt, len(shown), seed) for prompt, shown in zip(prompts, images, strict=True)]
        return [self.texts.pop(0) for _ in prompts]


def test_it_applies_takes_back_and_ends(toolbox: Toolbox, samples: list[Sample]) -> None:
    agent = Scripted(toolbox, *TURNS)
    run = run_agent(agent, samples[:1], PlanScorer(toolbox, "classic"), 6)
    assert run.plans == [("tiny.blur", "tiny.identity")] and not agent.texts
    assert [shown for _, shown, _ in agent.asked] == [1, 2, 3], "an image a turn"
    last = agent.asked[-1][0]
    assert last.startswith("<|im_start|>system\nYou restore photographs.")
    users = [part for part in last.split("<|im_start|>") if part.startswith("user")]
    assert USER_PROMPT in users[0]
    assert "Tools applied: tiny.brighten. 5 more may run." in users[1]
    assert "Tools applied: tiny.blur. 4 more may run." in users[2]
    for answer in TURNS[:2]:
        assert f"<|im_start|>assistant\n{answer}<|im_end|>" in last
    assert last.count("<|vision_start|>") == 3


def test_an_answer_that_cannot_be_parsed_is_sampled_once_more(
    toolbox: Toolbox, samples: list[Sample]
) -> None:
    agent = Scripted(toolbox, "Hm.", TURNS[2])
    assert run_agent(agent, samples[:1], PlanScorer(toolbox, "classic"), 6).plans == [("tiny.identity",)]
    assert [seed is None for _, _, seed in agent.asked] == [True, False]

    agent = Scripted(toolbox, TURNS[0], "Hm.", "Hm.")
    run = run_agent(agent, samples[:1], PlanScorer(toolbox, "classic"), 6)
    assert run.plans == [("tiny.brighten",)], "the episode ends"
    assert run.decisions[0] is not None and isinstance(run.decisions[0].error, PlanParseError)


def test_earlier_observations_are_what_was_observed(toolbox: Toolbox, samples: list[Sample]) -> None:
    class Keeps(Scripted):
        observed: list[Any]

        def act(self, observations: Sequence[Any]) -> list[Any]:
            self.observed = [*getattr(self, "observed", []), *observations]
            return super().act(observations)

    agent = Keeps(toolbox, *TURNS)
    run_agent(agent, samples[:1], PlanScorer(toolbox, "classic"), 6)
    *before, last = agent.observed
    for found, expected in zip(earlier_observations(last), before, strict=True):
        assert (found.used, found.steps_left) == (expected.used, expected.steps_left)
        assert found.image is expected.image and len(found.history) == len(expected.history)


@pytest.fixture(scope="module")
def tiny_folder(make_toolbox: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model without a card."""
    toolbox, folder = make_toolbox(), tmp_path_factory.mktemp("model")
    prompt = build_turn_system_prompt(toolbox)
    processor = tiny_processor(toolbox, [prompt, *TURNS])
    tiny_model(processor, hidden_size=32, num_layers=1).save_pretrained(folder)
    save_processor(processor, folder)
    return folder


def test_a_model_answers_with_several_images(
    tiny_folder: Path, toolbox: Toolbox, samples: list[Sample]
) -> None:
    agent = VLMStepwiseAgent.from_pretrained(toolbox, tiny_folder, max_new_tokens=4)
    assert not agent.plans_anew
    scripted = Scripted(toolbox, TURNS[0])
    (decision,) = scripted.act([_observed(samples[0])])
    observation = _observed(samples[0], (decision,))
    (decision,) = agent.act([observation])
    assert decision.error is not None, "it is not trained"
    first = agent.completions
    agent.act([observation])
    assert agent.completions == first and len(first) == 1


def _observed(sample: Sample, decisions: tuple[Any, ...] = ()) -> Any:
    from opera_env.envs.observation import Episode, observe, take_turn
    from opera_env.types import Turn

    episode = Episode(sample)
    for decision in decisions:
        image = observe(episode, 6).image
        take_turn(episode, decision, 6)
        episode.history = (*episode.history, Turn(image, decision))
    return observe(episode, 6)


@pytest.mark.slow
def test_the_shipped_model_plans_anew(samples: list[Sample]) -> None:
    lite = Toolbox.load("lite")
    agent = make_vlm_stepwise(lite, max_tools=3)
    assert agent.plans_anew
    run = run_agent(agent, samples, PlanScorer(lite, "classic"), 3)
    assert all(len(plan) <= 3 for plan in run.plans) and len(set(run.plans)) > 1


def test_calls_apply_take_back_and_end(toolbox: Toolbox, samples: list[Sample]) -> None:
    turns = (
        call("apply_tool", name="tiny.darken"),
        call("undo"),
        "Soft." + call("apply_tool", name="tiny.blur"),
        call("finish", degradations=["noise", "jpeg"]),
    )
    agent = ScriptedCalls(toolbox, *turns)
    run = run_agent(agent, samples[:1], PlanScorer(toolbox, "classic"), 6)
    assert run.plans == [("tiny.blur",)] and not agent.texts
    (decision,) = run.decisions
    assert decision is not None and decision.degradations == {"noise", "jpeg"} and decision.error is None
    prompts = [prompt for prompt, _, _ in agent.asked]
    assert prompts[0].endswith(f"{USER_PROMPT}<|im_end|>\n<|im_start|>assistant\n")
    for before, text, left, after in zip(prompts[:-1], turns[:-1], (5, 5, 4), prompts[1:], strict=True):
        result = f"<|vision_start|><|image_pad|><|vision_end|>{left} more may run."
        answer = f"<|im_end|>\n<|im_start|>tool\n{result}<|im_end|>\n<|im_start|>assistant\n"
        assert after == f"{before}{text}{answer}"
    assert [len(images) for _, images, _ in agent.asked] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "text", ["Hm.", "", call("apply_tool", name="no.tool"), "<tool_call>{bad}</tool_call>", "<tool_call>{"]
)
def test_a_call_that_cannot_be_understood_is_sampled_once_more(
    toolbox: Toolbox, samples: list[Sample], text: str
) -> None:
    end = call("finish", degradations=[])
    agent = ScriptedCalls(toolbox, text, call("apply_tool", name="tiny.blur"), end)
    run = run_agent(agent, samples[:1], PlanScorer(toolbox, "classic"), 6)
    assert run.plans == [("tiny.blur",)]
    assert [seed is None for _, _, seed in agent.asked] == [True, False, True]
    assert agent.asked[-1][0].count("<|im_start|>assistant") == 2, (
        "the call that was understood, and the next"
    )

    run = run_agent(ScriptedCalls(toolbox, text, text), samples[:1], PlanScorer(toolbox, "classic"), 6)
    assert run.plans == [()] and run.decisions[0] is not None
    assert isinstance(run.decisions[0].error, PlanParseError)


def test_the_budget_ends_an_episode_of_calls(toolbox: Toolbox, samples: list[Sample]) -> None:
    agent = ScriptedCalls(toolbox, *[call("apply_tool", name="tiny.blur"), call("undo")] * 3, max_tools=3)
    run = run_agent(agent, samples[:1], PlanScorer(toolbox, "classic"), 3)
    assert run.plans == [("tiny.blur",)] and agent.texts == [call("undo")], "three tools have run"


@pytest.fixture(scope="module")
def calling_folder(make_toolbox: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model that was made for calls of functions."""
    toolbox, folder = make_toolbox(), tmp_path_factory.mktemp("calling")
    processor = calling_processor(toolbox)
    tiny_model(processor, hidden_size=32, num_layers=1).save_pretrained(folder)
    save_processor(processor, folder)
    save_card(PROMPT, toolbox, folder, turns=True)
    return folder


def test_the_card_says_which_agent_a_model_is(
    calling_folder: Path, toolbox: Toolbox, samples: list[Sample], tmp_path: Path
) -> None:
    agent = make_vlm_stepwise(toolbox, path=calling_folder)
    assert isinstance(agent, VLMFunctionAgent) and not agent.plans_anew and agent.system_prompt == PROMPT
    agent.max_new_tokens = 4
    scripted = ScriptedCalls(toolbox, call("apply_tool", name="tiny.blur"))
    (decision,) = scripted.act([_observed(samples[0])])
    (decision,) = agent.act([_observed(samples[0], (decision,))])
    assert decision.error is not None, "it is not trained"
    agent.save_pretrained(tmp_path)
    assert isinstance(make_vlm_stepwise(toolbox, path=tmp_path), VLMFunctionAgent)
    with pytest.raises(
        AgentError, match="write the whole plan at once, found one that was trained to call"
    ):
        VLMAgent.from_pretrained(toolbox, calling_folder)
    save_card(PROMPT, toolbox, tmp_path)
    with pytest.raises(AgentError, match="to call functions turn by turn, found one"):
        VLMFunctionAgent.from_pretrained(toolbox, tmp_path)


def test_a_model_without_a_card_is_told_the_functions(tiny_folder: Path, toolbox: Toolbox) -> None:
    with pytest.raises(AgentError, match="response_template"):
        VLMFunctionAgent.from_pretrained(toolbox, tiny_folder)
    prompt = VLMFunctionAgent._build_system_prompt(toolbox, 4, ["noise"])
    assert "apply_tool, undo, and finish" in prompt and "At most 4 tools" in prompt
