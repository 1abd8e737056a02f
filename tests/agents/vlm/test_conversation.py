"""Conversations with calls: the warm start, TRL's training and the agent write the same ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from opera_agents.vlm.call_warm_start import CallConversation, draw_conversations
from opera_agents.vlm.conversation import turn_messages
from opera_agents.vlm.environment import FACTOR_NAMES, RestorationWorld
from opera_agents.vlm.prompt import make_grammar
from opera_agents.vlm.tiny import tiny_model
from opera_env.agents import run_agent
from opera_env.answer import TurnGrammar
from opera_env.data import Source
from opera_env.errors import AgentError
from opera_env.execution import PrefixCache
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import Decision, Sample, SampleSpec
from tests.agents.vlm.calling import PROMPT, ScriptedCalls, call

TURNS = (
    call("apply_tool", name="tiny.darken"),
    call("undo"),
    "Dark." + call("apply_tool", name="tiny.brighten"),
    call("finish", degradations=["low_light"]),
)


def pixels(images: Any) -> list[bytes]:
    return [image.tobytes() for image in images]


def draw(toolbox: Toolbox, samples: list[Sample], **options: Any) -> list[CallConversation]:
    scorer, rng = PlanScorer(toolbox, "classic"), np.random.default_rng(1)
    return draw_conversations(scorer, make_grammar(toolbox), samples, PROMPT, rng, **options)


def calls_of(conversation: CallConversation) -> list[dict[str, Any]]:
    return [each["function"] for message in conversation.messages for each in message.get("tool_calls", ())]


def test_the_agent_is_asked_what_the_warm_start_teaches(toolbox: Toolbox, samples: list[Sample]) -> None:
    for sample, conversation in zip(samples, draw(toolbox, samples, undo_prob=1.0), strict=True):
        texts = [call(each["name"], **each["arguments"]) for each in calls_of(conversation)]
        agent = ScriptedCalls(toolbox, *texts)
        run = run_agent(agent, [sample], PlanScorer(toolbox, "classic"), 6)
        whole = agent.processor.apply_chat_template(list(conversation.messages), tokenize=False)
        for (prompt, _, seed), text in zip(agent.asked, texts, strict=True):
            assert whole.startswith(f"{prompt}{text}<|im_end|>\n") and seed is None
        assert pixels(agent.asked[-1][1]) == pixels(conversation.images)
        (decision,) = run.decisions
        assert decision is not None and decision.degradations == sample.degradations


def test_an_environment_answers_as_the_warm_start_says(
    source: Source, toolbox: Toolbox, samples: list[Sample]
) -> None:
    grammar = TurnGrammar(toolbox.names, source.degradations, 6)
    world = RestorationWorld(source.make, PlanScorer(toolbox, "classic", cache=PrefixCache()), grammar)
    for sample, conversation in zip(samples, draw(toolbox, samples, undo_prob=1.0), strict=True):
        environment = world.make_environment()
        environment.reset(spec=sample.spec.to_json())
        results = [
            getattr(environment, each["name"])(**each["arguments"]) for each in calls_of(conversation)
        ]
        shown = [part.pop("image") for parts in results for part in parts if part["type"] == "image"]
        assert pixels(shown) == pixels(conversation.images[1:])
        told = [message["content"] for message in conversation.messages if message["role"] == "tool"]
        assert results == told


def test_trl_asks_what_the_agent_is_asked(source: Source, toolbox: Toolbox, tmp_path: Path) -> None:
    pytest.importorskip("trl", reason="TRL is not installed: pip install 'opera-env[agents]'")
    from trl import GRPOConfig, GRPOTrainer

    from opera_agents.vlm.data import make_dataset

    grammar = TurnGrammar(toolbox.names, source.degradations, 4)
    world = RestorationWorld(source.make, PlanScorer(toolbox, "classic", cache=PrefixCache()), grammar)
    agent = ScriptedCalls(toolbox, *TURNS, max_tools=4)
    tokenizer, dataset = agent.processor.tokenizer, make_dataset(source, PROMPT, 1, seed=0)
    trainer = GRPOTrainer(
        model=tiny_model(agent.processor, hidden_size=32, num_layers=1),
        args=GRPOConfig(
            output_dir=str(tmp_path),
            max_steps=1,
            per_device_train_batch_size=2,
            num_generations=2,
            max_completion_length=400,
            reward_weights=[0.0] * len(FACTOR_NAMES),
            remove_unused_columns=False,
            bf16=False,
            use_cpu=True,
            gradient_checkpointing=False,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
        ),
        train_dataset=dataset,
        processing_class=agent.processor,
        reward_funcs=world.factor_functions(),
        environment_factory=world.make_environment,
    )
    asked: list[tuple[list[int], list[bytes]]] = []
    texts = iter([*TURNS, "Done."])

    def generate(prompt_ids: Any, images: Any, *_: Any, **__: Any) -> Any:
        asked.append((prompt_ids[0], pixels(images[0])))
        ids = tokenizer(next(texts) + tokenizer.eos_token)["input_ids"]
        return [ids] * len(prompt_ids), None

    trainer._generate_single_turn = generate
    trainer.train()
    log = trainer.state.log_history[0]
    assert log["rewards/r_f/mean"] == 1.0 and log["rewards/undone/mean"] == 1.0

    sample = source.make(SampleSpec.from_json(dataset[0]["spec"]))
    run = run_agent(agent, [sample], PlanScorer(toolbox, "classic"), 4)
    assert run.plans == [("tiny.brighten",)] and not agent.texts
    for (prompt, images, _), (prompt_ids, shown) in zip(agent.asked, asked[:-1], strict=True):
        inputs = agent.processor(text=[prompt], images=[images])
        assert inputs["input_ids"][0] == prompt_ids and pixels(images) == shown


def test_a_history_of_another_agent_is_refused() -> None:
    with pytest.raises(AgentError, match="each apply one tool or take one back"):
        turn_messages(Decision(("tiny.blur", "tiny.blur")), 3)
