"""GRPO training with TRL: what it writes, adapters, exact resume, data set and presets."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoModelForImageTextToText

from opera_agents.vlm.agent import VLMAgent
from opera_agents.vlm.answers import random_answer
from opera_agents.vlm.prompt import make_grammar
from opera_agents.vlm.saved import save_card
from opera_agents.vlm.tiny import tiny_model, tiny_processor
from opera_env.errors import AgentError, MissingWeightsError, RunError, SampleError, SettingError
from opera_env.runs import claim_run_dir
from opera_env.tools import Toolbox
from opera_env.types import Observation, Sample

pytest.importorskip("trl", reason="TRL is not installed: pip install 'opera-env[agents]'")

from trl import GRPOConfig, ModelConfig, TrlParser

from opera_agents.vlm import grpo
from opera_agents.vlm.callbacks import ValidationCallback
from opera_agents.vlm.checkpoints import find_checkpoint
from opera_agents.vlm.config import EnvArguments
from opera_agents.vlm.data import make_dataset
from opera_agents.vlm.grpo import train
from opera_agents.vlm.reward import AnswerScorer

PRESETS = Path(grpo.__file__).with_name("presets")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model."""
    folder, toolbox = tmp_path_factory.mktemp("model"), Toolbox.load("lite")
    rng = np.random.default_rng(0)
    texts = [make_grammar(toolbox).format(random_answer(toolbox, rng)) for _ in range(50)]
    processor = tiny_processor(toolbox, texts)
    processor.save_pretrained(folder)
    tiny_model(processor, hidden_size=32, num_layers=1).save_pretrained(folder)
    save_card("Restore it.", toolbox, folder)
    return folder


def _env_args(photos: Path, **settings: Any) -> EnvArguments:
    small = {
        "reward": "classic",
        "canvas": 64,
        "num_samples": 32,
        "val_count": 2,
        "val_every": 2,
        "threads": 1,
    }
    return EnvArguments([str(photos)], str(photos), **(small | settings))


def _training_args(out: Path, **settings: Any) -> GRPOConfig:
    small: dict[str, Any] = {
        "output_dir": str(out),
        "learning_rate": 1e-2,
        "max_steps": 4,
        "per_device_train_batch_size": 4,
        "num_generations": 2,
        "max_completion_length": 6,
        "loss_type": "grpo",
        "beta": 0.0,
        "bf16": False,
        "gradient_checkpointing": False,
        "use_cpu": True,
        "logging_steps": 1,
        "save_steps": 2,
        "report_to": "tensorboard",
        "disable_tqdm": True,
    }
    return GRPOConfig(**(small | settings))


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return AutoModelForImageTextToText.from_pretrained(folder).state_dict()


@pytest.fixture
def reward_error_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rewards the length of the error message, because all answers of an untrained model get 0."""
    original = AnswerScorer._score_one

    def score_one(self: AnswerScorer, decision: Any, *args: Any) -> Any:
        return replace(original(self, decision, *args), total=float(len(str(decision.error))))

    monkeypatch.setattr(AnswerScorer, "_score_one", score_one)


def test_a_run_trains_logs_and_saves_an_agent(
    photos: Path, model: Path, tmp_path: Path, reward_error_lengths: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "run"))
    result = train(
        _env_args(photos), _training_args(tmp_path / "run", max_steps=2), ModelConfig(str(model))
    )
    assert 0 < result.reward < 10
    before, after = _weights(model), _weights(tmp_path / "run" / "model")
    assert any(not torch.equal(value, after[key]) for key, value in before.items())
    agent = VLMAgent.from_pretrained(Toolbox.load("lite"), tmp_path / "run" / "model")
    assert agent.system_prompt == "Restore it."
    tags = set(EventAccumulator(str(tmp_path / "run")).Reload().Tags()["scalars"])
    for name in ("r_q", "r_d", "r_f", "r_c", "total"):
        assert f"train/rewards/{name}/mean" in tags
    assert {"train/answers/reasoning_words", "train/answers/distinct_plans"} <= tags
    assert {"train/frac_reward_zero_std", "train/completions/mean_length"} <= tags
    val_tags = EventAccumulator(str(tmp_path / "run" / "val")).Reload().Tags()["scalars"]
    assert "val/reward" in val_tags
    assert (tmp_path / "run" / "config.json").is_file()
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "run" / "model").iterdir()}
    assert modes == {(tmp_path / "run" / "config.json").stat().st_mode & 0o777}
    with pytest.raises(RunError, match="another --out"):
        train(_env_args(photos, tool_cost=0.5), _training_args(tmp_path / "run"), ModelConfig(str(model)))


@pytest.mark.slow
def test_a_run_with_own_degradations(
    photos: Path, model: Path, tmp_path: Path, reward_error_lengths: None
) -> None:
    env_args = _env_args(photos, degradations="tests.degradations.own:OWN_DEGRADATIONS")
    training_args = _training_args(tmp_path / "run", max_steps=1, save_strategy="no")
    with pytest.raises(AgentError, match="pass the same degradations as in the warm start"):
        train(env_args, training_args, ModelConfig(str(model)))
    (tmp_path / "prompt.txt").write_text("Restore it.")
    env_args.system_prompt_file = str(tmp_path / "prompt.txt")
    train(env_args, training_args, ModelConfig(str(model)))
    agent = VLMAgent.from_pretrained(Toolbox.load("lite"), tmp_path / "run" / "model")
    assert {"vignette", "salt_and_pepper"} < set(agent.degradations)


@pytest.mark.slow
def test_a_trained_adapter_is_saved_as_an_agent(
    photos: Path, model: Path, tmp_path: Path, reward_error_lengths: None
) -> None:
    model_args = ModelConfig(str(model), use_peft=True, lora_r=2, lora_target_modules=["q_proj", "v_proj"])
    train(_env_args(photos), _training_args(tmp_path / "run", max_steps=2), model_args)
    folder = tmp_path / "run" / "model"
    adapter = load_file(folder / "adapter_model.safetensors")
    assert any(value.abs().sum() > 0 for name, value in adapter.items() if "lora_B" in name)
    observations = [Observation(torch.rand(3, 64, 64), torch.rand(3, 64, 64), (), 6)]
    (decision,) = VLMAgent.from_pretrained(Toolbox.load("lite"), folder).act(observations)
    assert decision.error is not None, "six tokens are too few for an answer"


@pytest.mark.slow
def test_resumed_run_equals_uninterrupted_run(
    photos: Path, model: Path, tmp_path: Path, reward_error_lengths: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    env_args, model_args = _env_args(photos), ModelConfig(str(model))
    train(env_args, _training_args(tmp_path / "whole"), model_args)
    original = ValidationCallback.on_step_end

    def interrupt(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        original(self, args, state, control, **kwargs)
        if state.global_step == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(ValidationCallback, "on_step_end", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(env_args, _training_args(tmp_path / "parts"), model_args)
    monkeypatch.setattr(ValidationCallback, "on_step_end", original)
    train(env_args, _training_args(tmp_path / "parts"), model_args)
    whole, parts = (_weights(tmp_path / run / "model") for run in ("whole", "parts"))
    torch.testing.assert_close(parts, whole, rtol=0, atol=0)
    with pytest.raises(RunError, match="4 max_steps"):
        train(env_args, _training_args(tmp_path / "parts", max_steps=2), model_args)
    train(env_args, _training_args(tmp_path / "parts", max_steps=6), model_args)
    assert find_checkpoint(tmp_path / "parts") == tmp_path / "parts" / "checkpoint-6"


def test_a_finished_run_is_not_trained_further(
    photos: Path, model: Path, tmp_path: Path, reward_error_lengths: None
) -> None:
    env_args, model_args, folder = _env_args(photos), ModelConfig(str(model)), tmp_path / "model"
    train(env_args, _training_args(tmp_path, max_steps=1, save_steps=1), model_args)
    before, tokenizer = _weights(folder), (folder / "tokenizer.json").read_bytes()
    shutil.rmtree(folder)
    train(env_args, _training_args(tmp_path, max_steps=1, save_steps=1), model_args)
    torch.testing.assert_close(_weights(folder), before, rtol=0, atol=0)
    assert (folder / "tokenizer.json").read_bytes() == tokenizer
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-1"]
    assert not (folder / "training_args.bin").exists()


def test_rows_are_a_function_of_seed_and_row(source: Any, samples: list[Sample]) -> None:
    first, again, other = (make_dataset(source, "Restore.", 5, seed) for seed in (0, 0, 1))
    assert first[3]["spec"] == again[3]["spec"] != other[3]["spec"]
    assert first[3]["image"].tobytes() == again[3]["image"].tobytes()
    assert first[0]["prompt"][0] == {"role": "system", "content": "Restore."}


def test_settings_without_sense_are_refused(photos: Path, tmp_path: Path) -> None:
    for name, value in (("reward_form", "sum"), ("tool_cost", math.nan), ("val_count", 0)):
        with pytest.raises(SettingError, match=f"--{name.replace('_', '-')} {value}: expected"):
            _env_args(photos, **{name: value})
    for settings, model_args in (
        ({"learning_rate": math.nan}, ModelConfig("nowhere")),
        ({"trust_remote_code": True}, ModelConfig("nowhere")),
        ({}, ModelConfig()),
    ):
        with pytest.raises(SettingError):
            train(_env_args(photos), _training_args(tmp_path, **settings), model_args)


def test_nothing_is_written_before_all_inputs_are_found(photos: Path, model: Path, tmp_path: Path) -> None:
    out, empty = tmp_path / "run", tmp_path / "empty"
    empty.mkdir()
    for env_args, model_args, error in (
        (_env_args(photos), ModelConfig(str(model / "nowhere" / "else")), MissingWeightsError),
        (_env_args(photos, val_count=2, judge="./no/judge"), ModelConfig(str(model)), MissingWeightsError),
        (EnvArguments([str(photos)], str(empty)), ModelConfig(str(model)), SampleError),
        (EnvArguments([str(empty)], str(photos)), ModelConfig(str(model)), SampleError),
    ):
        with pytest.raises(error):
            train(env_args, _training_args(out), model_args)
        assert not out.exists()


def test_two_trainers_in_one_folder_are_refused(photos: Path, model: Path, tmp_path: Path) -> None:
    with claim_run_dir(tmp_path, {}), pytest.raises(RunError, match="another process is training"):
        train(_env_args(photos), _training_args(tmp_path), ModelConfig(str(model)))


@pytest.mark.parametrize("name", ["tiny", "tiny-turns", "7b"])
def test_presets_are_parsed(name: str, tmp_path: Path) -> None:
    path = PRESETS / f"{name}.yaml"
    arguments = ["--config", str(path), "--images", "a", "--val", "b", "--output_dir", str(tmp_path)]
    if not torch.cuda.is_available():
        arguments += ["--bf16", "false", "--use_cpu", "true"]
    parser = TrlParser((EnvArguments, GRPOConfig, ModelConfig))
    env_args, training_args, model_args = parser.parse_args_and_config(arguments)  # pyright: ignore[reportAssignmentType]
    preset = yaml.safe_load(path.read_text())
    assert env_args.images == ["a"] and training_args.num_generations == 8 and training_args.beta == 0.0
    assert training_args.learning_rate == preset["learning_rate"]
    assert model_args.use_peft == preset.get("use_peft", False)
