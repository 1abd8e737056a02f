"""GRPO turn by turn: a training from the command's settings, its curves, its agent, exact resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

pytest.importorskip("trl", reason="TRL is not installed: pip install 'opera-env[agents]'")

from trl import GRPOConfig, ModelConfig

from opera_agents.vlm.callbacks import ValidationCallback
from opera_agents.vlm.config import EnvArguments, settings
from opera_agents.vlm.environment import FACTOR_NAMES, EpisodeScore, RestorationWorld
from opera_agents.vlm.grpo import train
from opera_agents.vlm.judge import RulesJudge
from opera_agents.vlm.objectives import make_judge, make_objective
from opera_agents.vlm.pretrained import load_vision_language_model
from opera_agents.vlm.saved import load_card, save_card, save_processor
from opera_agents.vlm.stepwise import make_vlm_stepwise
from opera_agents.vlm.tiny import tiny_model
from opera_env.data import Source
from opera_env.errors import AgentError, RunError, SettingError
from opera_env.runs import describe_changes
from opera_env.tools import Toolbox
from tests.agents.vlm.calling import PROMPT, calling_processor


@pytest.fixture(scope="module")
def model(small_toolbox: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model that was made for calls of functions."""
    folder, toolbox = tmp_path_factory.mktemp("model"), Toolbox.load(small_toolbox)
    processor = calling_processor(toolbox)
    tiny_model(processor, hidden_size=32, num_layers=1).save_pretrained(folder)
    save_processor(processor, folder)
    save_card(PROMPT, toolbox, folder, turns=True)
    return folder


def _env_args(photos: Path, toolbox: Path, **changed: Any) -> EnvArguments:
    small = {
        "toolbox": str(toolbox),
        "turns": True,
        "judge": "none",
        "reward": "classic",
        "canvas": 64,
        "num_samples": 32,
        "val_count": 2,
        "val_every": 2,
        "threads": 1,
    }
    return EnvArguments([str(photos)], str(photos), **(small | changed))


def _training_args(out: Path, max_steps: int = 3) -> GRPOConfig:
    return GRPOConfig(
        output_dir=str(out),
        learning_rate=1e-2,
        max_steps=max_steps,
        per_device_train_batch_size=4,
        num_generations=2,
        max_completion_length=8,
        loss_type="grpo",
        beta=0.0,
        bf16=False,
        gradient_checkpointing=False,
        use_cpu=True,
        logging_steps=1,
        save_steps=1,
        report_to="tensorboard",
        disable_tqdm=True,
    )


@pytest.mark.slow
def test_a_training_turn_by_turn_logs_saves_an_agent_and_resumes_exactly(
    photos: Path, small_toolbox: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An untrained model calls nothing, and every reward would be 0.
    rewards = iter(range(10_000))

    def score(self: Any, environment: Any, outcome: Any) -> EpisodeScore:
        return EpisodeScore(outcome.r_q, 0.0, 0.0, float(next(rewards) % 2))

    monkeypatch.setattr(RestorationWorld, "_score_episode", score)
    env_args, model_args = _env_args(photos, small_toolbox), ModelConfig(str(model))
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(whole))
    training_args = _training_args(whole)
    assert 0 < train(env_args, training_args, model_args).reward < 10
    assert training_args.max_tool_calling_iterations == 12
    tags = set(EventAccumulator(str(whole)).Reload().Tags()["scalars"])
    assert {f"train/rewards/{name}/mean" for name in FACTOR_NAMES} <= tags
    assert {"train/rewards/RestorationEnvironment/mean", "train/tools/call_frequency"} <= tags
    assert "val/reward" in EventAccumulator(str(whole / "val")).Reload().Tags()["scalars"]
    card = load_card(whole / "model")
    assert card is not None and card.turns and card.system_prompt == PROMPT
    make_vlm_stepwise(Toolbox.load(small_toolbox), path=whole / "model")

    rewards, original = iter(range(10_000)), ValidationCallback.on_step_end

    def interrupt(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 2:
            raise KeyboardInterrupt
        original(self, args, state, control, **kwargs)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(ValidationCallback, "on_step_end", interrupt)
        train(env_args, _training_args(parts), model_args)
    with pytest.raises(RunError, match="max_tools"):
        train(_env_args(photos, small_toolbox, max_tools=3), _training_args(parts), model_args)
    rewards = iter(range(10_000))
    train(env_args, _training_args(parts), model_args)
    first, second = (load_vision_language_model(run / "model").state_dict() for run in (whole, parts))
    torch.testing.assert_close(second, first, rtol=0, atol=0)
    before = load_vision_language_model(model).state_dict()
    assert any(not torch.equal(value, first[key]) for key, value in before.items())


def test_a_model_for_the_other_kind_of_answers_is_refused(
    photos: Path, small_toolbox: Path, model: Path, tmp_path: Path
) -> None:
    env_args = _env_args(photos, small_toolbox, turns=False)
    with pytest.raises(AgentError, match="--turns true"):
        train(env_args, _training_args(tmp_path / "run"), ModelConfig(str(model)))
    assert not (tmp_path / "run").exists()


def test_calls_have_no_judge(photos: Path, small_toolbox: Path) -> None:
    with pytest.raises(SettingError, match="none with --turns true"):
        _env_args(photos, small_toolbox, judge="rules")
    env_args, toolbox = _env_args(photos, small_toolbox), Toolbox.load(small_toolbox)
    assert make_judge(env_args, toolbox) is None
    env_args = _env_args(photos, small_toolbox, turns=False, judge="rules")
    assert isinstance(make_judge(env_args, toolbox), RulesJudge)


def test_the_objective_is_that_of_the_settings(photos: Path, small_toolbox: Path, source: Source) -> None:
    toolbox = Toolbox.load(small_toolbox)
    calls = make_objective(_env_args(photos, small_toolbox, tool_cost=0.5), toolbox, source, 2)
    assert [each.__name__ for each in calls.reward_functions] == list(FACTOR_NAMES)
    assert calls.environment_factory is not None and set(calls.reward_weights) == {0.0}
    world = calls.environment_factory()._world
    assert (world.tool_cost, world.grammar.max_tools) == (0.5, 6)
    words = make_objective(_env_args(photos, small_toolbox, turns=False), toolbox, source, 2)
    assert [each.__name__ for each in words.reward_functions] == ["r_q", "r_d", "r_f", "r_c", "total"]
    assert words.reward_weights == [0.0, 0.0, 0.0, 0.0, 1.0] and words.environment_factory is None


def test_runs_of_earlier_versions_are_resumed(
    photos: Path, small_toolbox: Path, model: Path, tmp_path: Path
) -> None:
    toolbox, training_args = Toolbox.load(small_toolbox), _training_args(tmp_path)
    words, calls = (
        settings(
            _env_args(photos, small_toolbox, turns=turns),
            training_args,
            ModelConfig(str(model)),
            "",
            toolbox,
        )
        for turns in (False, True)
    )
    before = {name: value for name, value in words.items() if name != "turns"}
    assert describe_changes(before, words) == {}
    assert "turns" in describe_changes(before, calls) and "turns" in describe_changes(calls, words)
