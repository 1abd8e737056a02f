"""A tiny model is built offline, can be saved, and plans like any other agent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from opera_agents.vlm.agent import VLMAgent
from opera_agents.vlm.answers import labelled_answer, random_answer
from opera_agents.vlm.judge import RulesJudge
from opera_agents.vlm.prompt import make_grammar, messages
from opera_agents.vlm.saved import save_card
from opera_agents.vlm.tiny import SIDE, tiny_model, tiny_processor
from opera_env.degradations import DEGRADATIONS
from opera_env.envs.observation import Episode, observe
from opera_env.errors import MissingWeightsError, PlanParseError
from opera_env.tools import Toolbox
from opera_env.types import Agent, Sample


@pytest.fixture(scope="module")
def lite() -> Toolbox:
    return Toolbox.load("lite")


@pytest.fixture(scope="module")
def texts(lite: Toolbox) -> list[str]:
    rng = np.random.default_rng(0)
    return [make_grammar(lite).format(random_answer(lite, rng)) for _ in range(200)]


@pytest.fixture(scope="module")
def saved(lite: Toolbox, texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    processor = tiny_processor(lite, texts)
    processor.save_pretrained(folder)
    tiny_model(processor).save_pretrained(folder)
    save_card("Mend it.", lite, folder)
    return folder


def test_answers_are_written_and_read_without_loss(lite: Toolbox, texts: list[str]) -> None:
    words: Any = tiny_processor(lite, texts).tokenizer
    for text in texts[:20]:
        ids = words(text)["input_ids"]
        assert words.decode(ids, skip_special_tokens=True) == text
        assert len(ids) < 120
    for name in (*lite.names, *DEGRADATIONS, "<think>", "</answer>"):
        assert len(words(name)["input_ids"]) == 1


def test_it_is_small_and_sees_almost_every_pixel(lite: Toolbox, texts: list[str]) -> None:
    processor: Any = tiny_processor(lite, texts)
    model = tiny_model(processor)
    assert 0.5e6 < sum(parameter.numel() for parameter in model.parameters()) < 2e6
    prompt = processor.apply_chat_template(messages("Mend it."), add_generation_prompt=True, tokenize=False)
    inputs = processor(text=[prompt], images=[[Image.new("RGB", (128, 128))]], return_tensors="pt")
    assert inputs["image_grid_thw"].tolist() == [[1, SIDE // 7, SIDE // 7]]
    assert prompt.endswith("<|im_start|>assistant\n")


def test_weights_are_a_function_of_the_seed(lite: Toolbox, texts: list[str]) -> None:
    processor = tiny_processor(lite, texts)
    state = torch.random.get_rng_state()
    one, same, other = (tiny_model(processor, seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(value, same[key]) for key, value in one.items())
    assert not all(torch.equal(value, other[key]) for key, value in one.items())
    assert torch.equal(torch.random.get_rng_state(), state)


def test_an_untrained_one_answers_what_cannot_be_read(
    saved: Path, lite: Toolbox, samples: list[Sample]
) -> None:
    agent = VLMAgent(lite, saved, longest=12, batch=3)
    assert isinstance(agent, Agent) and agent.system == "Mend it."
    observations = [observe(Episode(sample), 6) for sample in samples]
    state = torch.random.get_rng_state()
    decisions = agent.act(observations)
    assert len(decisions) == len(samples)
    assert all(isinstance(decision.error, PlanParseError) for decision in decisions)
    assert torch.equal(torch.random.get_rng_state(), state), "nobody else's chance is touched"
    images = [Image.new("RGB", (128, 128), (90, 10 * row, 0)) for row in range(3)]
    assert agent.write(images, draw=True) == agent.write(images, draw=True)


def test_what_can_be_read_the_second_time_counts(
    saved: Path, lite: Toolbox, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    good = make_grammar(lite).format(labelled_answer(lite, frozenset({"haze"}), np.random.default_rng(0)))
    agent = VLMAgent(lite, saved)
    asked: list[tuple[int, bool]] = []

    def write(images: list[Image.Image], draw: bool = False) -> list[str]:
        asked.append((len(images), draw))
        return [good] * len(images) if draw else [good, *["Hm."] * (len(images) - 1)]

    monkeypatch.setattr(agent, "write", write)
    decisions = agent.act([observe(Episode(sample), 6) for sample in samples[:3]])
    assert asked == [(3, False), (2, True)]
    assert all(decision.degradations == frozenset({"haze"}) for decision in decisions)
    assert agent.answers == [good] * 3


def test_a_missing_model_is_named(lite: Toolbox, tmp_path: Path) -> None:
    with pytest.raises(MissingWeightsError, match="the vision-language model"):
        VLMAgent(lite, tmp_path / "nothing")


def test_labelled_answers_are_right_and_consistent(lite: Toolbox) -> None:
    rng, judge = np.random.default_rng(0), RulesJudge(lite)
    grammar = make_grammar(lite)
    for _ in range(200):
        degradations = frozenset(rng.choice(DEGRADATIONS, rng.integers(0, 4), replace=False).tolist())
        decision = labelled_answer(lite, degradations, rng)
        assert decision.degradations == degradations
        assert judge.find_inconsistency(decision) is None
        assert grammar.parse(grammar.format(decision)) == decision
