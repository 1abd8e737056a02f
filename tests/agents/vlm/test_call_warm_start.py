"""Conversations for the warm start: their plans and images, and the tokens that are learned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from opera_agents.vlm.call_warm_start import CallConversation, call_texts, collate_calls, draw_conversations
from opera_agents.vlm.prompt import make_grammar
from opera_env.data.images import to_pil
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import Decision, Observation, Sample
from tests.agents.vlm.calling import PROMPT, call, calling_processor


class Planner:
    closed_loop = False

    def act(self, observations: Sequence[Observation]) -> list[Decision]:
        return [Decision(("tiny.blur", "tiny.darken"))] * len(observations)


def draw(toolbox: Toolbox, samples: list[Sample], seed: int = 0, **options: Any) -> list[CallConversation]:
    scorer, rng = PlanScorer(toolbox, "classic"), np.random.default_rng(seed)
    return draw_conversations(scorer, make_grammar(toolbox), samples, PROMPT, rng, **options)


def calls(conversation: CallConversation) -> list[tuple[str, Any]]:
    called = [
        each["function"] for message in conversation.messages for each in message.get("tool_calls", ())
    ]
    return [(each["name"], each["arguments"]) for each in called]


def test_a_planner_s_plan_is_applied_tool_by_tool(toolbox: Toolbox, samples: list[Sample]) -> None:
    conversations = draw(toolbox, samples, planner=Planner())
    plans = [("tiny.blur",), ("tiny.blur", "tiny.darken")]
    for sample, conversation in zip(samples, conversations, strict=True):
        *applied, last = calls(conversation)
        assert applied == [("apply_tool", {"name": plans[1][0]}), ("apply_tool", {"name": plans[1][1]})]
        assert last[0] == "finish" and set(last[1]["degradations"]) == sample.degradations
        outcomes = PlanScorer(toolbox, "classic").restore([sample] * 2, plans)
        expected = [to_pil(outcome.image()).tobytes() for outcome in outcomes]
        assert [image.tobytes() for image in conversation.images[1:]] == expected
        assert not conversation.untaught


def test_plausible_plans_differ_and_are_a_function_of_the_generator(
    toolbox: Toolbox, samples: list[Sample]
) -> None:
    first, again, other = (draw(toolbox, samples * 3, seed) for seed in (0, 0, 1))
    assert [calls(each) for each in first] == [calls(each) for each in again]
    assert [calls(each) for each in first] != [calls(each) for each in other]


def test_a_mistake_fits_no_degradation_and_is_taken_back(toolbox: Toolbox, samples: list[Sample]) -> None:
    for sample, conversation in zip(samples, draw(toolbox, samples, undo_prob=1.0), strict=True):
        called = calls(conversation)
        (place,) = conversation.untaught
        mistake = called[place][1]["name"]
        assert not toolbox[mistake].degradations & (sample.degradations or frozenset())
        assert called[place + 1] == ("undo", {})
        before, _, after = conversation.images[place : place + 3]
        assert before.tobytes() == after.tobytes()
    assert not any(each.untaught for each in draw(toolbox, samples, planner=Planner()))


def test_a_full_plan_leaves_no_room_for_mistakes(toolbox: Toolbox, samples: list[Sample]) -> None:
    scorer, rng = PlanScorer(toolbox, "classic"), np.random.default_rng(0)
    options: dict[str, Any] = {"planner": Planner(), "undo_prob": 1.0}
    drawn = draw_conversations(scorer, make_grammar(toolbox, 2), samples, PROMPT, rng, **options)
    assert not any(each.untaught for each in drawn)


def test_what_the_model_is_to_write_has_labels(toolbox: Toolbox, samples: list[Sample]) -> None:
    processor, conversations = calling_processor(toolbox), draw(toolbox, samples, undo_prob=0.5)
    assert {bool(each.untaught) for each in conversations} == {True, False}
    batch = collate_calls(processor, conversations)
    assert batch["image_grid_thw"].shape[0] == sum(len(each.images) for each in conversations)
    for labels, conversation in zip(batch["labels"], conversations, strict=True):
        taught = [
            call(name, **arguments)
            for place, (name, arguments) in enumerate(calls(conversation))
            if place not in conversation.untaught
        ]
        written = processor.tokenizer.decode(labels[labels != -100])
        assert written == "".join(f"{text}<|im_end|>" for text in [*taught, "Done."])


def test_the_texts_of_a_tokenizer_have_every_word(toolbox: Toolbox) -> None:
    texts = call_texts(toolbox, make_grammar(toolbox), PROMPT, np.random.default_rng(0), 30)
    assert {PROMPT, "Done.", "5 more may run.", "The restoration has ended."} <= set(texts)


def test_a_call_has_few_tokens(toolbox: Toolbox) -> None:
    tokenizer = calling_processor(toolbox).tokenizer
    finish = call("finish", degradations=["noise", "jpeg"])
    for text, count in (
        (call("apply_tool", name="tiny.blur"), 5),
        (call("undo"), 3),
        (finish, 9),
        (call("finish", degradations=[]), 4),
        ("5 more may run.", 2),
        ("The restoration has ended.", 1),
        ("Done.", 1),
    ):
        ids = tokenizer(text)["input_ids"]
        assert len(ids) == count and tokenizer.decode(ids, skip_special_tokens=True) == text
