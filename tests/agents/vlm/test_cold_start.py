"""A model learns to answer, and goes on as if it had not been stopped."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from opera_agents.vlm import cold_start
from opera_agents.vlm.agent import VLMAgent
from opera_agents.vlm.cold_start import VLMWarmStartConfig, answers, batch_of, load_or_build_model, train
from opera_agents.vlm.prompt import make_grammar
from opera_agents.vlm.saved import load_card
from opera_env.data import Source
from opera_env.tools import Toolbox
from opera_env.types import Sample


@pytest.fixture
def config(photos: Path, tmp_path: Path) -> VLMWarmStartConfig:
    return VLMWarmStartConfig(
        photos,
        photos,
        tmp_path / "run",
        steps=4,
        batch=2,
        canvas=64,
        val_count=2,
        reward="classic",
        save_every=2,
        threads=1,
        device="cpu",
    )


@pytest.fixture(autouse=True)
def short_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a few steps of training answers have no end: the default limit would take most of the time."""
    load = partial(VLMAgent.from_pretrained, max_new_tokens=32)
    monkeypatch.setattr(VLMAgent, "from_pretrained", load)


def test_it_trains_and_is_an_agent(config: VLMWarmStartConfig) -> None:
    watched = train(config)
    assert 0 < watched.reward < 10
    told = load_card(config.out / "model")
    assert told is not None and told.system_prompt == cold_start.TINY_SYSTEM_PROMPT
    VLMAgent.from_pretrained(Toolbox.load("lite"), config.out / "model")


def test_a_stopped_run_ends_as_one_that_was_not(
    config: VLMWarmStartConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = replace(config, out=tmp_path / "whole"), replace(config, out=tmp_path / "parts")
    train(whole)
    original, calls = cold_start.batch_of, []

    def stops(*args: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return original(*args)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(cold_start, "batch_of", stops)
        train(parts)
    train(parts)
    first, second = (
        torch.load(one.out / "checkpoint.pt", weights_only=True)["model"] for one in (whole, parts)
    )
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_only_the_answer_is_learned(config: VLMWarmStartConfig, samples: list[Sample]) -> None:
    toolbox = Toolbox.load("lite")
    processor, _ = load_or_build_model(config, toolbox)
    texts = answers(config, toolbox, samples, np.random.default_rng(0))
    inputs = batch_of(processor, config.system, samples, texts)
    for labels, text in zip(inputs["labels"], texts, strict=True):
        kept = labels[labels != -100]
        assert processor.tokenizer.decode(kept) == text + processor.tokenizer.eos_token


def test_both_kinds_of_answers(config: VLMWarmStartConfig, samples: list[Sample]) -> None:
    toolbox = Toolbox.load("lite")
    grammar, rng = make_grammar(toolbox), np.random.default_rng(0)
    labelled = [grammar.parse(text) for text in answers(config, toolbox, samples, rng)]
    assert [one.degradations for one in labelled] == [sample.degradations for sample in samples]
    format_alone = replace(config, answers="format")
    other = [grammar.parse(text) for text in answers(format_alone, toolbox, samples * 5, rng)]
    assert all(one.error is None for one in other)
    assert [one.degradations for one in other] != [sample.degradations for sample in samples * 5]


@pytest.mark.slow
def test_labels_are_learned(config: VLMWarmStartConfig, source: Source) -> None:
    toolbox = Toolbox.load("lite")
    processor, model = load_or_build_model(config, toolbox)
    rng = np.random.default_rng(0)
    fixed = [source.make(source.draw(rng)) for _ in range(8)]
    inputs = batch_of(processor, config.system, fixed, answers(config, toolbox, fixed, rng))
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    losses = []
    for _ in range(30):
        loss = model(**inputs).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
