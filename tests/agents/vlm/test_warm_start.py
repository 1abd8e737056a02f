"""The warm start of a vision-language model: training, exact resume, labels and target answers."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from opera_agents.common.batches import observe_sample
from opera_agents.common.runs import load_encoder
from opera_agents.planner.saved import SHIPPED as SHIPPED_PLANNER
from opera_agents.vlm import warm_start
from opera_agents.vlm.agent import VLMAgent
from opera_agents.vlm.judge import RulesJudge
from opera_agents.vlm.pretrained import load_vision_language_model
from opera_agents.vlm.prompt import make_grammar
from opera_agents.vlm.saved import load_card
from opera_agents.vlm.stepwise import make_vlm_stepwise
from opera_agents.vlm.warm_start import (
    collate,
    draw_answers,
    load_or_build_model,
    load_planner,
    train,
)
from opera_agents.vlm.warm_start_config import TINY_SYSTEM_PROMPT, VLMWarmStartConfig
from opera_env.data import Source
from opera_env.degradations import DEGRADATIONS
from opera_env.encoder import ImageEncoder
from opera_env.errors import AgentError, MissingWeightsError, RunError, SampleError, SettingError
from opera_env.runs import claim_run_dir, describe_changes
from opera_env.tools import Toolbox
from opera_env.types import Sample
from opera_env.weights.checkpoints import save_checkpoint


@pytest.fixture
def config(photos: Path, tmp_path: Path) -> VLMWarmStartConfig:
    return VLMWarmStartConfig(
        (photos,),
        photos,
        tmp_path / "run",
        steps=4,
        batch_size=2,
        canvas=64,
        val_count=2,
        reward="classic",
        save_every=2,
        threads=1,
        device="cpu",
    )


@pytest.fixture(autouse=True)
def short_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits answers, because after few steps of training they never end."""
    original = VLMAgent.__init__

    def init(self: VLMAgent, *args: Any, **options: Any) -> None:
        original(self, *args, **options)
        self.max_new_tokens = 32

    monkeypatch.setattr(VLMAgent, "__init__", init)


def test_a_trained_model_is_an_agent(config: VLMWarmStartConfig) -> None:
    result = train(config)
    assert 0 < result.reward < 10
    card = load_card(config.out / "model")
    assert card is not None and card.system_prompt == TINY_SYSTEM_PROMPT
    VLMAgent.from_pretrained(Toolbox.load("lite"), config.out / "model")


@pytest.mark.slow
def test_a_model_trained_on_own_degradations_names_them(config: VLMWarmStartConfig) -> None:
    config = replace(config, degradations="tests.degradations.own:OWN_DEGRADATIONS", steps=2)
    assert 0 < train(config).reward < 10
    agent = VLMAgent.from_pretrained(Toolbox.load("lite"), config.out / "model")
    assert set(agent.degradations) == {*DEGRADATIONS, "vignette", "salt_and_pepper"}
    assert len(agent.processor.tokenizer("salt_and_pepper")["input_ids"]) == 1
    answer = "<think>.</think><degradation>['vignette']</degradation><answer>[]</answer>"
    assert agent.grammar.parse(answer).degradations == {"vignette"}


@pytest.mark.slow
def test_resumed_run_equals_uninterrupted_run(
    config: VLMWarmStartConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = replace(config, out=tmp_path / "whole"), replace(config, out=tmp_path / "parts")
    train(whole)
    original, calls = warm_start.collate, []

    def interrupt(*args: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return original(*args)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(warm_start, "collate", interrupt)
        train(parts)
    train(parts)
    first, second = (
        torch.load(run.out / "checkpoint.pt", weights_only=True)["model"] for run in (whole, parts)
    )
    torch.testing.assert_close(first, second, rtol=0, atol=0)


@pytest.mark.slow
def test_a_run_is_resumed_with_more_steps(
    config: VLMWarmStartConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    train(replace(config, steps=2))
    train(config)
    assert "after 2 of 4 steps" in capsys.readouterr().out
    assert torch.load(config.out / "checkpoint.pt", weights_only=True)["step"] == 4
    with pytest.raises(RunError, match="4 steps"):
        train(replace(config, steps=2))
    save_checkpoint(config.out / "checkpoint.pt", {"update": 2})
    with pytest.raises(RunError, match="not a checkpoint of this run"):
        train(config)


def test_nothing_is_written_before_all_inputs_are_found(config: VLMWarmStartConfig, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name, path, error in (
        ("images", (tmp_path / "empty",), SampleError),
        ("val", tmp_path / "nowhere", SampleError),
        ("model", tmp_path / "nowhere", MissingWeightsError),
        ("system_prompt_file", tmp_path / "nowhere", FileNotFoundError),
    ):
        with pytest.raises(error):
            train(replace(config, **{name: path}))
        assert not config.out.exists()
    with pytest.raises(SettingError, match="--lr nan"):
        replace(config, lr=math.nan)


def test_two_trainers_in_one_folder_are_refused(config: VLMWarmStartConfig) -> None:
    with claim_run_dir(config.out, {}), pytest.raises(RunError, match="another process is training"):
        train(config)


def test_only_answers_have_labels(config: VLMWarmStartConfig, samples: list[Sample]) -> None:
    toolbox = Toolbox.load("lite")
    processor, _ = load_or_build_model(config, toolbox)
    texts = draw_answers(config, toolbox, samples, np.random.default_rng(0))
    inputs = collate(processor, config.system_prompt, samples, texts)
    for labels, text in zip(inputs["labels"], texts, strict=True):
        answer_tokens = labels[labels != -100]
        assert processor.tokenizer.decode(answer_tokens) == text + processor.tokenizer.eos_token


def test_both_kinds_of_target_answers(config: VLMWarmStartConfig, samples: list[Sample]) -> None:
    toolbox = Toolbox.load("lite")
    grammar, rng = make_grammar(toolbox), np.random.default_rng(0)
    labelled = [grammar.parse(text) for text in draw_answers(config, toolbox, samples, rng)]
    assert [decision.degradations for decision in labelled] == [sample.degradations for sample in samples]
    format_config = replace(config, answer_kind="format")
    unlabelled = [grammar.parse(text) for text in draw_answers(format_config, toolbox, samples * 5, rng)]
    assert all(decision.error is None for decision in unlabelled)
    assert [decision.degradations for decision in unlabelled] != [
        sample.degradations for sample in samples * 5
    ]


@pytest.mark.slow
def test_the_loss_falls(config: VLMWarmStartConfig, source: Source) -> None:
    toolbox = Toolbox.load("lite")
    processor, model = load_or_build_model(config, toolbox)
    rng = np.random.default_rng(0)
    samples = [source.make(source.draw(rng)) for _ in range(8)]
    inputs = collate(processor, config.system_prompt, samples, draw_answers(config, toolbox, samples, rng))
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    losses = []
    for _ in range(30):
        loss = model(**inputs).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_answers_have_the_plans_of_a_planner(config: VLMWarmStartConfig, samples: list[Sample]) -> None:
    lite = Toolbox.load("lite")
    config = replace(config, planner=SHIPPED_PLANNER)
    planner = load_planner(config, lite)
    assert planner is not None
    answers = draw_answers(config, lite, samples, np.random.default_rng(0), planner=planner)
    grammar, judge = make_grammar(lite, config.max_tools), RulesJudge(lite)
    expected = planner.act([observe_sample(sample) for sample in samples])
    for text, decision, sample in zip(answers, expected, samples, strict=True):
        answer = grammar.parse(text)
        assert answer.plan == decision.plan
        assert answer.degradations == sample.degradations, "labels are the true ones"
        assert judge.find_inconsistency(answer) is None


def test_a_model_starts_with_a_trained_encoder(config: VLMWarmStartConfig, tmp_path: Path) -> None:
    weights = SHIPPED_PLANNER / "planner.safetensors"
    config = replace(config, encoder=weights, planner=SHIPPED_PLANNER, steps=2)
    train(config)
    model = load_vision_language_model(config.out / "model")
    encoder = ImageEncoder()
    load_encoder(encoder, weights)
    trained = model.tower.encoder.state_dict()
    assert all(torch.equal(value, trained[key]) for key, value in encoder.state_dict().items())
    recorded = json.loads((config.out / "config.json").read_text())
    assert recorded["encoder"]["name"] == "planner.safetensors" and recorded["planner"]["content"]
    with pytest.raises(RunError, match="encoder"):
        train(replace(config, encoder=None))


@pytest.mark.slow
def test_a_model_learns_to_call_functions_and_resumes_exactly(
    config: VLMWarmStartConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = SHIPPED_PLANNER / "planner.safetensors"
    config = replace(config, answer_kind="turns", planner=SHIPPED_PLANNER, encoder=encoder, undo_prob=0.5)
    whole, parts = replace(config, out=tmp_path / "whole"), replace(config, out=tmp_path / "parts")
    assert 0 < train(whole).reward < 10
    original, calls = warm_start.collate_calls, []

    def interrupt(*args: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return original(*args)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(warm_start, "collate_calls", interrupt)
        train(parts)
    with pytest.raises(RunError, match="undo_prob"):
        train(replace(parts, undo_prob=0.0))
    train(parts)
    first, second = (
        torch.load(run.out / "checkpoint.pt", weights_only=True)["model"] for run in (whole, parts)
    )
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    card = load_card(parts.out / "model")
    assert card is not None and card.turns
    make_vlm_stepwise(Toolbox.load("lite"), path=parts.out / "model")
    with pytest.raises(AgentError, match="was trained to call functions"):
        train(
            replace(config, answer_kind="labelled", planner=None, encoder=None, model=parts.out / "model")
        )


def test_runs_of_earlier_versions_are_resumed(config: VLMWarmStartConfig, small_toolbox: Path) -> None:
    settings = config.settings(Toolbox.load(small_toolbox))
    before = {name: value for name, value in settings.items() if name != "undo_prob"}
    assert describe_changes(before, settings) == {}
    turns = replace(config, answer_kind="turns").settings(Toolbox.load(small_toolbox))
    assert set(describe_changes(before, turns)) == set(describe_changes(turns, before) | {"undo_prob": ""})


def test_settings_that_exclude_each_other_are_refused(config: VLMWarmStartConfig, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="encoder"):
        replace(config, encoder=tmp_path / "encoder.safetensors", model=tmp_path)
    with pytest.raises(SettingError, match="planner"):
        replace(config, planner=tmp_path, answer_kind="format")
