"""Conversations with calls of functions, from which a model learns to work turn by turn before GRPO."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.random import Generator
from PIL import Image

from opera_agents.common.batches import observe_sample
from opera_agents.common.plausible_plans import plausible_plan
from opera_agents.vlm.conversation import Message, whole_conversation
from opera_agents.vlm.environment import function_schemas
from opera_agents.vlm.prompt import sample_image
from opera_env.answer import AnswerGrammar
from opera_env.data.images import to_pil
from opera_env.envs.observation import Episode, observe
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import Agent, Decision, Plan, Sample


@dataclass(frozen=True)
class CallConversation:
    """A conversation about one photograph.

    Attributes:
        messages: Its messages, in the form of Hugging Face's processors.
        images: The images in it, in their order.
        untaught: Positions among the assistant's messages of those that the model is not to learn.
    """

    messages: tuple[Message, ...]
    images: tuple[Image.Image, ...]
    untaught: frozenset[int] = frozenset()


def draw_conversations(
    scorer: PlanScorer,
    grammar: AnswerGrammar,
    samples: Sequence[Sample],
    system_prompt: str,
    rng: Generator,
    planner: Agent | None = None,
    undo_prob: float = 0.0,
) -> list[CallConversation]:
    """Draws a conversation about each sample, in which a plan is applied tool by tool.

    Args:
        scorer: Runs the tools.
        grammar: Names of tools and labels, and how many tools may run.
        samples: The samples. Their true degradations are named at the end.
        system_prompt: The system prompt.
        rng: Source of all randomness.
        planner: The agent whose plans are applied; None for plausible plans.
        undo_prob: Probability that a tool that fits none of the degradations is applied, which the model
            is not to learn, and then taken back, which it is.
    """
    toolbox, max_tools = scorer.toolbox, grammar.max_tools
    if planner is None:
        plans = [
            plausible_plan(toolbox, _labels(sample), rng, max_tools, labels=grammar.degradations)
            for sample in samples
        ]
    else:
        plans = [
            each.plan for each in planner.act([observe_sample(sample, max_tools) for sample in samples])
        ]
    mistakes = [
        _draw_mistake(toolbox, sample, plan, rng, undo_prob, max_tools)
        for sample, plan in zip(samples, plans, strict=True)
    ]
    turns = [_turns(plan, mistake) for plan, mistake in zip(plans, mistakes, strict=True)]
    images = _observed_images(scorer, samples, turns, max_tools)
    return [
        CallConversation(
            tuple(
                whole_conversation(
                    system_prompt,
                    decisions,
                    [name for name in grammar.degradations if name in _labels(sample)],
                    max_tools,
                )
            ),
            (sample_image(sample), *shown),
            frozenset() if mistake is None else frozenset([mistake[0]]),
        )
        for sample, decisions, shown, mistake in zip(samples, turns, images, mistakes, strict=True)
    ]


def _labels(sample: Sample) -> frozenset[str]:
    return sample.degradations or frozenset()


def _draw_mistake(
    toolbox: Toolbox, sample: Sample, plan: Plan, rng: Generator, prob: float, max_tools: int
) -> tuple[int, str] | None:
    """Draws the place and the name of a tool that fits no degradation; None for no mistake."""
    unfit = [tool.name for tool in toolbox if not tool.degradations & _labels(sample)]
    if rng.random() >= prob or len(plan) >= max_tools or not unfit:
        return None
    return int(rng.integers(len(plan) + 1)), unfit[rng.integers(len(unfit))]


def _turns(plan: Plan, mistake: tuple[int, str] | None) -> list[Decision]:
    """Returns the decisions that apply a plan tool by tool, with a mistake that is taken back."""
    turns = [Decision((name,)) for name in plan]
    if mistake is not None:
        place, name = mistake
        turns[place:place] = [Decision((name,)), Decision((), undo=1)]
    return turns


def _observed_images(
    scorer: PlanScorer, samples: Sequence[Sample], turns: Sequence[Sequence[Decision]], max_tools: int
) -> list[list[Image.Image]]:
    """Returns what is observed after each turn; the tools of all samples run together."""
    rows: list[Sample] = []
    plans: list[Plan] = []
    for sample, decisions in zip(samples, turns, strict=True):
        plan: Plan = ()
        for decision in decisions:
            plan = (*plan[: len(plan) - decision.undo], *decision.plan)
            rows.append(sample)
            plans.append(plan)
    outcomes = iter(scorer.restore(rows, plans))
    episodes = (Episode(sample, plan, next(outcomes)) for sample, plan in zip(rows, plans, strict=True))
    images = (to_pil(observe(episode, max_tools).image) for episode in episodes)
    return [[next(images) for _ in decisions] for decisions in turns]


def call_texts(
    toolbox: Toolbox, grammar: AnswerGrammar, system_prompt: str, rng: Generator, count: int
) -> list[str]:
    """Draws texts of conversations, without photographs, on which a tokenizer is trained."""
    texts: list[str] = []
    for _ in range(count):
        named = rng.choice(list(grammar.degradations), rng.integers(0, 4), replace=False).tolist()
        plan = plausible_plan(
            toolbox, frozenset(named), rng, grammar.max_tools, labels=grammar.degradations
        )
        messages = whole_conversation(system_prompt, _turns(plan, None), named, grammar.max_tools)
        texts += [text for message in messages for text in _words(message)]
    return texts


def _words(message: Message) -> list[str]:
    content = message["content"]
    parts = [content] if isinstance(content, str) else [part.get("text", "") for part in content]
    return [*parts, *(json.dumps(call["function"]) for call in message.get("tool_calls", ()))]


def collate_calls(processor: Any, conversations: Sequence[CallConversation]) -> Any:
    """Returns a batch of conversations whose labels are the tokens that the model is to write.

    Args:
        processor: The model's processor; its chat template puts each message between two special tokens.
        conversations: The conversations.
    """
    functions = function_schemas()
    texts = [
        processor.apply_chat_template(list(conversation.messages), tools=functions, tokenize=False)
        for conversation in conversations
    ]
    images = [list(conversation.images) for conversation in conversations]
    inputs = processor(text=texts, images=images, return_tensors="pt", padding=True)
    header = processor.tokenizer("<|im_start|>assistant\n")["input_ids"]
    labels = inputs["input_ids"].clone()
    for row, conversation in zip(labels, conversations, strict=True):
        _mask_all_but_answers(row, header, processor.tokenizer.eos_token_id, conversation.untaught)
    inputs["labels"] = labels
    return inputs


def _mask_all_but_answers(row: Any, header: Sequence[int], end: int, untaught: frozenset[int]) -> None:
    """Sets the labels of all tokens but those of the assistant, with the one that ends each answer."""
    ids, position, answer = row.tolist(), 0, 0
    is_answer = False
    while position < len(ids):
        if not is_answer and ids[position : position + len(header)] == list(header):
            row[position : position + len(header)] = -100
            position, is_answer = position + len(header), True
            continue
        if not is_answer or answer in untaught:
            row[position] = -100
        if is_answer and ids[position] == end:
            is_answer, answer = False, answer + 1
        position += 1
