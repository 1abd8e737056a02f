"""The environment for TRL: calls, mistakes, failures and rewards; and a training with it, which resumes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from opera_agents.vlm.environment import (
    FACTOR_NAMES,
    RestorationEnvironment,
    RestorationWorld,
    function_schemas,
)
from opera_env.answer import TurnGrammar
from opera_env.data import Source
from opera_env.data.images import to_pil
from opera_env.errors import AgentError
from opera_env.execution import PrefixCache
from opera_env.reward import f1_score
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import Sample
from tests.agents.vlm.calling import PROMPT, calling_processor, warm_caller

MakeWorld = Callable[..., RestorationWorld]


@pytest.fixture
def make_world(source: Source, toolbox: Toolbox) -> MakeWorld:
    def make(max_tools: int = 3, **options: Any) -> RestorationWorld:
        scorer = PlanScorer(toolbox, "classic", cache=PrefixCache())
        grammar = TurnGrammar(toolbox.names, source.degradations, max_tools)
        return RestorationWorld(source.make, scorer, grammar, **options)

    return make


def start(world: RestorationWorld, sample: Sample) -> RestorationEnvironment:
    environment = world.make_environment()
    environment.reset(spec=sample.spec.to_json(), prompt=[], image=None)
    return environment


def words(parts: list[dict[str, Any]]) -> str:
    return " ".join(part["text"] for part in parts if part["type"] == "text")


def test_calls_show_their_result(make_world: MakeWorld, samples: list[Sample], toolbox: Toolbox) -> None:
    world = make_world()
    environment = start(world, samples[0])
    picture, text = environment.apply_tool("tiny.darken")
    (expected,) = PlanScorer(toolbox, "classic").restore(samples[:1], [("tiny.darken",)])
    assert picture["image"].tobytes() == to_pil(expected.image()).tobytes()
    assert text["text"] == "2 more may run."
    picture, text = environment.undo()
    assert picture["image"].tobytes() == to_pil(samples[0].lq).tobytes()
    assert text["text"] == "2 more may run.", "taking back does not refund"
    environment.apply_tool("tiny.blur")
    assert world.scorer.tools_run == 2 and world.scorer.images_scored == 0


def test_the_reward_is_the_product_of_its_factors(
    make_world: MakeWorld, samples: list[Sample], toolbox: Toolbox
) -> None:
    world = make_world(tool_cost=0.25)
    environment = start(world, samples[2])
    environment.apply_tool("tiny.blur")
    assert words(environment.finish(["noise", "jpeg"])) == "The restoration has ended."
    (outcome,) = PlanScorer(toolbox, "classic").score(samples[2:3], [("tiny.blur",)])
    r_d = f1_score(frozenset({"noise", "jpeg"}), samples[2].degradations or frozenset())
    reward = environment.get_reward()
    assert reward == pytest.approx((outcome.r_q - 0.25) * r_d, abs=1e-4) and 0 < r_d < 1
    factors = {
        function.__name__: function(environments=[environment], spec=[])
        for function in world.factor_functions()
    }
    assert tuple(factors) == FACTOR_NAMES and factors["r_d"] == [r_d] and factors["r_f"] == [1.0]
    assert factors["tools_run"] == [1.0] and factors["undone"] == [0.0]
    assert factors["r_q"] == [pytest.approx(outcome.r_q - 0.25, abs=1e-4)]
    assert world.scorer.images_scored == 1, "all of them share one scoring"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda environment: environment.apply_tool("no.tool"), "expected one of tiny.brighten"),
        (lambda environment: environment.apply_tool(3), "found '3'"),
        (lambda environment: environment.undo(), "no tool was applied"),
        (lambda environment: environment.finish(["fire"]), "expected names among"),
        (lambda environment: environment.finish("noise"), "expected names among"),
    ],
)
def test_mistakes_are_explained_and_cost_the_reward(
    make_world: MakeWorld, samples: list[Sample], call: Callable[[Any], Any], message: str
) -> None:
    environment = start(make_world(), samples[0])
    assert message in words(call(environment))
    environment.finish([])
    (score,) = environment._world.score([environment])
    assert (score.r_f, score.total) == (0.0, 0.0) and score.r_q > 0


def test_the_budget_and_the_end_hold(make_world: MakeWorld, samples: list[Sample]) -> None:
    environment = start(make_world(max_tools=1), samples[0])
    environment.apply_tool("tiny.blur")
    assert "no more tools may run" in words(environment.apply_tool("tiny.blur"))
    assert "none can be taken back" in words(environment.undo()), "as in an environment of agents"
    environment = start(make_world(), samples[0])
    environment.finish([])
    assert "no more tools may run" in words(environment.apply_tool("tiny.blur"))
    assert "ended already" in words(environment.finish([]))


def test_calls_that_reach_no_function_cost_the_reward(make_world: MakeWorld, samples: list[Sample]) -> None:
    world = make_world()
    understood, lost = start(world, samples[2]), start(world, samples[2])
    for environment in (understood, lost):
        environment.finish(["jpeg"])
    told = {"role": "tool", "name": "finish", "content": [{"type": "text", "text": "The end."}]}
    error = {"role": "tool", "name": "open", "content": "{'error': 'Tool open not found.'}"}
    completions = [[told], [error, told]]
    r_f = next(each for each in world.factor_functions() if each.__name__ == "r_f")
    assert r_f(environments=[understood, lost], completions=completions) == [1.0, 0.0]
    assert understood.get_reward() > 0 and lost.get_reward() == 0.0


def test_the_gated_form_of_the_reward(make_world: MakeWorld, samples: list[Sample]) -> None:
    rewards = {}
    for form in ("product", "gated"):
        environment = start(make_world(reward_form=form), samples[2])
        environment.finish(["haze"])
        rewards[form] = environment.get_reward()
    assert rewards == {"product": 0.0, "gated": 0.0}
    environment = start(make_world(reward_form="gated"), samples[2])
    environment.finish(list(samples[2].degradations or ()))
    (score,) = environment._world.score([environment])
    assert score.total == pytest.approx(1 + score.r_q)


def test_an_episode_that_was_not_finished_earns_nothing(
    make_world: MakeWorld, samples: list[Sample]
) -> None:
    environment = start(make_world(), samples[0])
    environment.apply_tool("tiny.blur")
    assert environment.get_reward() == 0.0


def test_a_tool_that_fails_stops_the_training(
    make_world: MakeWorld, samples: list[Sample], toolbox: Toolbox
) -> None:
    toolbox.add("tiny.fails", lambda image: image[..., 1:])
    environment = start(make_world(), samples[0])
    with pytest.raises(Exception, match=r"tiny\.fails"):
        environment.apply_tool("tiny.fails")  # TRL makes a message of it
    with pytest.raises(AgentError, match=r"a tool failed while a model was trained: tool 'tiny\.fails'"):
        environment.get_reward()
    environment.reset(spec=samples[0].spec.to_json())
    environment.finish([])
    assert environment.get_reward() >= 0.0, "the next episode has nothing to do with it"


def test_trl_finds_three_tools_with_schemas(make_world: MakeWorld) -> None:
    from transformers.utils import get_json_schema

    environment = make_world().make_environment()
    names = [name for name in vars(RestorationEnvironment) if not name.startswith("_")]
    assert names == ["reset", "apply_tool", "undo", "finish", "get_reward"]
    offered = sorted(set(names) - {"reset", "get_reward"})
    assert function_schemas() == [get_json_schema(getattr(environment, name)) for name in offered]
    for schema in (each["function"] for each in function_schemas()):
        assert schema["description"]
        assert all(value["description"] for value in schema["parameters"]["properties"].values())


@pytest.mark.slow
def test_a_training_calls_tools_and_resumes_exactly(
    make_world: MakeWorld, source: Source, samples: list[Sample], toolbox: Toolbox, tmp_path: Path
) -> None:
    pytest.importorskip("trl", reason="TRL is not installed: pip install 'opera-env[agents]'")
    from trl import GRPOConfig, GRPOTrainer

    from opera_agents.vlm.data import make_dataset
    from opera_agents.vlm.tiny import tiny_model

    world, processor = make_world(max_tools=2), calling_processor(toolbox)
    state = warm_caller(processor, world.scorer, world.grammar, samples).state_dict()

    def train(folder: Path, resume: Path | None = None) -> tuple[Any, dict[str, Any]]:
        model = tiny_model(processor, hidden_size=64, num_layers=1)
        model.load_state_dict(state)
        model.save_pretrained = partial(model.save_pretrained, save_original_format=False)
        trainer = GRPOTrainer(
            model=model,
            args=GRPOConfig(
                output_dir=str(folder),
                max_steps=2,
                save_steps=1,
                learning_rate=1e-3,
                per_device_train_batch_size=8,
                num_generations=8,
                max_completion_length=200,
                max_tool_calling_iterations=4,
                reward_weights=[0.0] * len(FACTOR_NAMES),
                remove_unused_columns=False,
                bf16=False,
                use_cpu=True,
                gradient_checkpointing=False,
                report_to="none",
                logging_steps=1,
            ),
            train_dataset=make_dataset(source, PROMPT, 8, seed=0),
            processing_class=processor,
            reward_funcs=world.factor_functions(),
            environment_factory=world.make_environment,
        )
        trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
        return trainer, model.state_dict()

    trainer, whole = train(tmp_path / "whole")
    first = trainer.state.log_history[0]
    assert first["tools/call_frequency"] > 0 and first["rewards/tools_run/mean"] > 0
    assert first["rewards/r_q/mean"] > 0 and first["reward_std"] > 0, "there is something to learn from"
    assert any(not torch.equal(whole[name], state[name]) for name in state), "it learned"
    _, resumed = train(tmp_path / "resumed", tmp_path / "whole" / "checkpoint-1")
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name
    assert load_file(tmp_path / "whole" / "checkpoint-2" / "model.safetensors")
