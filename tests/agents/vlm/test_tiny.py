"""Tiny models: tokenizer, initial weights, saving, and ``VLMAgent`` with them."""

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
from opera_agents.vlm.prompt import build_messages, make_grammar
from opera_agents.vlm.saved import save_card
from opera_agents.vlm.tiny import IMAGE_SIZE, tiny_model, tiny_processor
from opera_env.degradations import DEGRADATIONS
from opera_env.envs.observation import Episode, observe
from opera_env.errors import AgentError, MissingWeightsError, PlanParseError
from opera_env.seeding import content_seed
from opera_env.tools import Toolbox
from opera_env.types import Agent, Sample, TokenCount


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
    save_card("Restore it.", lite, folder)
    return folder


def test_answers_are_tokenised_without_loss(lite: Toolbox, texts: list[str]) -> None:
    tokenizer: Any = tiny_processor(lite, texts).tokenizer
    for text in texts[:20]:
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.decode(ids, skip_special_tokens=True) == text
        assert len(ids) < 120
    for name in (*lite.names, *DEGRADATIONS, "<think>", "</answer>"):
        assert len(tokenizer(name)["input_ids"]) == 1


def test_tiny_model_is_small_and_hardly_resamples_images(lite: Toolbox, texts: list[str]) -> None:
    processor: Any = tiny_processor(lite, texts)
    model = tiny_model(processor)
    assert 0.5e6 < sum(parameter.numel() for parameter in model.parameters()) < 2e6
    prompt = processor.apply_chat_template(
        build_messages("Restore it."), add_generation_prompt=True, tokenize=False
    )
    inputs = processor(text=[prompt], images=[[Image.new("RGB", (128, 128))]], return_tensors="pt")
    assert inputs["image_grid_thw"].tolist() == [[1, IMAGE_SIZE // 7, IMAGE_SIZE // 7]]
    assert prompt.endswith("<|im_start|>assistant\n")


def test_initial_weights_are_a_function_of_the_seed(lite: Toolbox, texts: list[str]) -> None:
    processor = tiny_processor(lite, texts)
    state = torch.random.get_rng_state()
    first, second, other_seed = (tiny_model(processor, seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    assert not all(torch.equal(value, other_seed[key]) for key, value in first.items())
    assert torch.equal(torch.random.get_rng_state(), state)


def test_answers_of_an_untrained_model_cannot_be_parsed(
    saved: Path, lite: Toolbox, samples: list[Sample]
) -> None:
    agent = VLMAgent.from_pretrained(lite, saved, max_new_tokens=12, batch_size=3)
    assert isinstance(agent, Agent) and agent.system_prompt == "Restore it."
    observations = [observe(Episode(sample), 6) for sample in samples]
    state = torch.random.get_rng_state()
    decisions = agent.act(observations)
    assert len(decisions) == len(samples)
    assert all(isinstance(decision.error, PlanParseError) for decision in decisions)
    assert torch.equal(torch.random.get_rng_state(), state), "the global generator is not advanced"
    images = [Image.new("RGB", (128, 128), (90, 10 * row, 0)) for row in range(3)]
    assert (
        agent.generate(images, seed=1) == agent.generate(images, seed=1) != agent.generate(images, seed=2)
    )
    together = agent.completions
    for observation, text in zip(observations, together, strict=True):
        agent.act([observation])
        assert agent.completions == [text], "a second attempt does not depend on the other images"


def test_tokens_are_counted_until_the_end_of_an_answer(
    saved: Path, lite: Toolbox, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = VLMAgent.from_pretrained(lite, saved, max_new_tokens=12, batch_size=2)
    images = [Image.new("RGB", (128, 128), (90, 10 * row, 0)) for row in range(3)]
    prompts = [agent.render(build_messages(text)) for text in ("Hm.", "Restore it.", "Hm.")]
    agent.complete(prompts, [[image] for image in images])
    read = [
        len(agent.processor(text=[prompt], images=[[image]])["input_ids"][0])
        for prompt, image in zip(prompts, images, strict=True)
    ]
    assert [count.prompt for count in agent.token_counts] == read and read[0] != read[1]
    end = agent.processor.tokenizer.eos_token_id
    answers = torch.tensor([[5, 6, end, 0], [5, 6, 7, 8]])

    def generate(input_ids: torch.Tensor, **_: Any) -> torch.Tensor:
        return torch.cat([input_ids, answers[: len(input_ids)]], 1)

    monkeypatch.setattr(agent.model, "generate", generate)
    decisions = agent.act([observe(Episode(sample), 6) for sample in samples[:2]])
    written = [decision.tokens.completion for decision in decisions if decision.tokens is not None]
    assert written == [3 + 3, 4 + 3], "with the second attempts, which are alone"
    assert all(
        decision.tokens == TokenCount(2 * read[1], count)
        for decision, count in zip(decisions, written, strict=True)
    )


def test_an_answer_that_cannot_be_parsed_is_sampled_once_more(
    saved: Path, lite: Toolbox, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    good = make_grammar(lite).format(labelled_answer(lite, frozenset({"haze"}), np.random.default_rng(0)))
    agent = VLMAgent.from_pretrained(lite, saved)
    requests: list[tuple[int, int | None]] = []

    def generate(images: list[Image.Image], seed: int | None = None) -> list[str]:
        requests.append((len(images), seed))
        return [good, *["Hm."] * (len(images) - 1)] if seed is None else [good] * len(images)

    monkeypatch.setattr(agent, "generate", generate)
    observations = [observe(Episode(sample), 6) for sample in samples[:3]]
    decisions = agent.act(observations)
    seeds = [content_seed(agent.seed, observation.image) for observation in observations]
    assert requests == [(3, None), (1, seeds[1]), (1, seeds[2])]
    assert all(decision.degradations == frozenset({"haze"}) for decision in decisions)
    assert agent.completions == [good] * 3


def test_error_for_a_missing_model_names_it(lite: Toolbox, tmp_path: Path) -> None:
    with pytest.raises(MissingWeightsError, match="the vision-language model"):
        VLMAgent.from_pretrained(lite, tmp_path / "nothing")


def test_labelled_answers_are_correct_and_consistent(lite: Toolbox) -> None:
    rng, judge = np.random.default_rng(0), RulesJudge(lite)
    grammar = make_grammar(lite)
    for _ in range(200):
        degradations = frozenset(rng.choice(DEGRADATIONS, rng.integers(0, 4), replace=False).tolist())
        decision = labelled_answer(lite, degradations, rng)
        assert decision.degradations == degradations
        assert judge.find_inconsistency(decision) is None
        assert grammar.parse(grammar.format(decision)) == decision


def test_answers_name_the_given_labels(lite: Toolbox) -> None:
    rng, labels = np.random.default_rng(0), (*DEGRADATIONS, "vignette")
    decision = labelled_answer(lite, frozenset({"noise", "vignette"}), rng, labels=labels)
    assert decision.degradations == {"noise", "vignette"}
    assert "noise and vignette" in (decision.reasoning or "")
    drawn = [random_answer(lite, rng, labels=labels).degradations or frozenset() for _ in range(100)]
    assert any("vignette" in degradations for degradations in drawn)


def test_labelled_answers_refuse_other_degradations(lite: Toolbox) -> None:
    with pytest.raises(AgentError, match=r"answers can name rain, .*found fog"):
        labelled_answer(lite, frozenset({"noise", "fog"}), np.random.default_rng(0))
